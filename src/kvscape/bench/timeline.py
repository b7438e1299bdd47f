"""When each token of a run came, and the times and rates that follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Timeline:
    """Seconds after the start at which each stream's tokens came, ``arrivals_s[stream][token]``."""

    prompt_tokens: int
    arrivals_s: Sequence[Sequence[float]]

    @property
    def prefilled_s(self) -> float:
        """When the last stream had its first token."""
        return max(arrivals[0] for arrivals in self.arrivals_s)

    @property
    def e2e_s(self) -> list[float]:
        return [arrivals[-1] for arrivals in self.arrivals_s]

    @property
    def ttft_s(self) -> list[float]:
        return [arrivals[0] for arrivals in self.arrivals_s]

    @property
    def tpot_s(self) -> list[float]:
        """(E2E - TTFT) / (output tokens - 1) of each stream."""
        return [(arrivals[-1] - arrivals[0]) / (len(arrivals) - 1) for arrivals in self.arrivals_s]

    @property
    def itl_s(self) -> list[float]:
        """Every time between two tokens of one stream."""
        return [later - earlier for arrivals in self.arrivals_s for earlier, later in pairwise(arrivals)]

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prompt_tokens * len(self.arrivals_s) / self.prefilled_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens of all streams after every prompt was read, by the time they took."""
        later = sum(time > self.prefilled_s for arrivals in self.arrivals_s for time in arrivals)
        return later / (max(self.e2e_s) - self.prefilled_s)
