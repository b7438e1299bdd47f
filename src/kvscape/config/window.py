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

    def unseen_pages(self, position: int, page_size: int, key_group: int = 1) -> range:
        """Pages no query from ``position`` on sees a token of, and whose groups of keys are complete."""
        oldest = min(max(0, position - self.recent + 1), position // key_group * key_group)
        return range(-(-self.sinks // page_size), oldest // page_size)

    def most_pages(self, tokens: int, chunk: int, page_size: int, key_group: int = 1) -> int:
        """Pages that a sequence of ``tokens`` holds at its busiest, when up to ``chunk`` tokens come at once."""
        whole = -(-tokens // page_size)
        if self.recent >= UNLIMITED:
            return whole
        return min(whole, -(-self.sinks // page_size) + -(-(max(self.recent, key_group) + chunk) // page_size) + 1)
