"""When each request of a run came and when its tokens did, and the times and rates that follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Timeline:
    """Seconds after the start: when each request came, ``asked_s[request]``, and ``tokens_s[request][token]``.

    ``as_one`` says that all requests came and ran together. Then prompts are read first and tokens decoded afterwards,
    and each rate is of its own part; otherwise the two go on at once, and both rates are of the whole run.
    """

    prompt_tokens: int
    asked_s: Sequence[float]
    tokens_s: Sequence[Sequence[float]]
    as_one: bool = True

    @property
    def end_s(self) -> float:
        """When the last token of all came."""
        return max(tokens[-1] for tokens in self.tokens_s)

    @property
    def e2e_s(self) -> list[float]:
        """Of each request, from when it came."""
        return [tokens[-1] - asked for asked, tokens in zip(self.asked_s, self.tokens_s, strict=True)]

    @property
    def ttft_s(self) -> list[float]:
        """Of each request, from when it came: the time it waited for a place is in it."""
        return [tokens[0] - asked for asked, tokens in zip(self.asked_s, self.tokens_s, strict=True)]

    @property
    def tpot_s(self) -> list[float]:
        """(E2E - TTFT) / (output tokens - 1) of each request."""
        return [(tokens[-1] - tokens[0]) / (len(tokens) - 1) for tokens in self.tokens_s]

    @property
    def itl_s(self) -> list[float]:
        """Every time between two tokens of one request."""
        return [later - earlier for tokens in self.tokens_s for earlier, later in pairwise(tokens)]

    @property
    def prefill_tokens_per_s(self) -> float:
        return self.prompt_tokens * len(self.tokens_s) / (self._prefilled_s if self.as_one else self.end_s)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens of all requests after every prompt was read, by the time they took; or all tokens of the whole run."""
        start_s = self._prefilled_s if self.as_one else 0.0
        later = sum(time > start_s for tokens in self.tokens_s for time in tokens)
        return later / (self.end_s - start_s)

    @property
    def _prefilled_s(self) -> float:
        """When the last request had its first token."""
        return max(tokens[0] for tokens in self.tokens_s)
