"""Which keys a query sees, and which pages can be given back."""

from dataclasses import dataclass

UNLIMITED = 2**30


@dataclass(frozen=True)
class Window:
    """The first ``sinks`` tokens and the last ``recent`` ones, the query included (StreamingLLM, arXiv 2309.17453)."""

    sinks: int = 0
    recent: int = UNLIMITED

    @property
    def size(self) -> int:
        """Tokens seen in all."""
        return self.sinks + self.recent

    @property
    def limited(self) -> bool:
        """Whether a query ever loses sight of a token."""
        return self.recent < UNLIMITED

    def unseen_pages(self, position: int, page_size: int, key_group: int = 1) -> range:
        """Pages no query from ``position`` on sees a token of, nor one that shares their scales: groups go whole."""
        oldest = max(0, position - self.recent + 1) // key_group * key_group
        return range(self._sink_pages(page_size, key_group), oldest // page_size)

    def most_pages(self, tokens: int, chunk: int, page_size: int, key_group: int = 1) -> int:
        """Pages that a sequence of ``tokens`` holds at its busiest, when up to ``chunk`` tokens come at once."""
        whole = -(-tokens // page_size)
        if not self.limited:
            return whole
        recent = self.recent + key_group - 1
        return min(whole, self._sink_pages(page_size, key_group) + -(-(recent + chunk) // page_size) + 1)

    def _sink_pages(self, page_size: int, key_group: int) -> int:
        groups = -(-self.sinks // key_group)
        return -(-groups * key_group // page_size)
