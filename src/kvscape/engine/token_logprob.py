"""What is told of a token's likelihood."""

from dataclasses import dataclass
from typing import TypeAlias

TopLogprobs: TypeAlias = tuple[tuple[int, float], ...]
"""The likeliest tokens in one place with their log-probabilities, best first."""


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of a token, and the likeliest tokens in its place with theirs, best first."""

    token_id: int
    logprob: float
    top: TopLogprobs = ()
