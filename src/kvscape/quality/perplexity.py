"""Perplexity: exp of the mean negative log-likelihood of a text's tokens, with its standard error."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvscape.quality.protocols import Window


class Scorer(Protocol):
    """Whatever gives log-probabilities; the engine is one."""

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Natural logarithm of each token's probability given those before it, [n - 1]."""
        ...


@dataclass(frozen=True)
class Perplexity:
    """``standard_error`` is the perplexity's own, by the delta method: perplexity x std(nll) / sqrt(n)."""

    perplexity: float
    standard_error: float
    mean_nll: float
    tokens_scored: int


def perplexity(scorer: Scorer, windows: Iterable[Window], advance: Callable[[], None] | None = None) -> Perplexity:
    """Score each window; call ``advance`` after each."""
    parts = []
    for window in windows:
        logprobs = np.asarray(scorer.score(window.token_ids), np.float64)
        parts.append(-logprobs[window.first_target - 1 :])
        if advance is not None:
            advance()
    return summarize(np.concatenate(parts))


def summarize(nll: NDArray[np.float64]) -> Perplexity:
    """Perplexity of per-token negative log-likelihoods; the error is not a number when there is one token only."""
    mean = float(nll.mean())
    value = math.exp(mean)
    spread = float(nll.std(ddof=1)) if nll.size > 1 else math.nan
    return Perplexity(value, value * spread / math.sqrt(nll.size), mean, int(nll.size))
