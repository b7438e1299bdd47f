"""A candidate compared with a reference, window by window, while it is scored."""

from kvscape.quality.distributions import Doubles, Floats, Ids
from kvscape.quality.divergence import TokenDivergences, compare
from kvscape.quality.reference import Reference


class Comparison:
    """Collects the divergence of every scored token; ``look`` is for a ``RowScorer``."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._parts: list[list[TokenDivergences]] = []

    def look(self, window: int, logits: Floats, targets: Ids) -> Doubles:
        if window == len(self._parts):
            self._parts.append([])
        found = compare(self._reference.part(window, targets), logits, targets)
        self._parts[window].append(found)
        return found.candidate_logprobs

    @property
    def windows(self) -> list[TokenDivergences]:
        """Those of each window's scored tokens."""
        return [TokenDivergences.joined(parts) for parts in self._parts]
