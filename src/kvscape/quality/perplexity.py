"""Perplexity: exp of the mean negative log-likelihood of a text's tokens, with its standard error."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvscape.quality.journal import Journal
from kvscape.quality.protocols import Window
from kvscape.quality.standard_error import Vector, sum_error

_LARGEST = math.log(np.finfo(np.float64).max)


class Scorer(Protocol):
    """Whatever gives log-probabilities; the engine is one."""

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Natural logarithm of each token's probability given those before it, [n - 1], in parts."""
        ...


@dataclass(frozen=True)
class Perplexity:
    """``standard_error`` is the perplexity's own, by the delta method: perplexity x that of ``mean_nll``.

    ``mean_nll`` is the logarithm of the perplexity: of a token, or of a word where the protocol counts words.
    ``bits_per_byte`` does not depend on the tokenizer; it is not a number where the bytes are not known.
    """

    perplexity: float
    standard_error: float
    mean_nll: float
    tokens_scored: int
    bits_per_byte: float = math.nan


@dataclass(frozen=True)
class Running:
    """How far a measurement is, and the perplexity so far."""

    tokens_done: int
    tokens_total: int
    perplexity: float


Told = Callable[[Running], None]


def perplexity(
    scorer: Scorer, windows: Sequence[Window], told: Told | None = None, journal: Journal | None = None
) -> Perplexity:
    """Score the windows; tell how far it is after each part of one. What the journal has is not scored again."""
    return summarize(scores(scorer, windows, told, journal), windows)


def scores(
    scorer: Scorer, windows: Sequence[Window], told: Told | None = None, journal: Journal | None = None
) -> list[Vector]:
    """Negative log-likelihoods of each window's scored tokens."""
    total, tally, found = sum(window.tokens_scored for window in windows), _Tally(), []
    for window in windows:
        known = journal.find(window) if journal is not None else None
        parts = []
        for part in _scored(scorer, window) if known is None else [known]:
            parts.append(part)
            tally.add(window, part)
            if told is not None:
                told(Running(tally.tokens, total, tally.perplexity))
        found.append(np.concatenate(parts).astype(np.float64))
        if journal is not None and known is None:
            journal.add(window, np.concatenate(parts))
    return found


def _scored(scorer: Scorer, window: Window) -> Iterator[NDArray[np.float32]]:
    """The parts of a window that are scored: what stands before its first target is context."""
    context = window.first_target - 1
    for logprobs in scorer.score_chunks(window.token_ids):
        if len(logprobs) > context:
            yield -logprobs[context:]
        context = max(0, context - len(logprobs))


class _Tally:
    """The sums of what is scored so far."""

    def __init__(self) -> None:
        self.tokens, self._nll, self._units = 0, 0.0, 0.0

    def add(self, window: Window, nll: NDArray[np.float32]) -> None:
        self.tokens += len(nll)
        self._nll += window.weight * float(nll.sum(dtype=np.float64))
        self._units += _unit(window) * len(nll)

    @property
    def perplexity(self) -> float:
        return _exp(self._nll / self._units) if self._units else math.nan


def _unit(window: Window) -> float:
    """What each scored token adds to what the mean is over: itself, or its share of the words."""
    return window.weight if window.words is None else window.words / window.tokens_scored


def summarize(nll: Sequence[Vector], windows: Sequence[Window]) -> Perplexity:
    """Perplexity of the windows' negative log-likelihoods. The error is not a number when there is one token only.

    A mean is a quotient of two sums, and its error that of the sum of residuals, what a token has more than its share.
    """
    units = sum(_unit(window) * part.size for window, part in zip(windows, nll, strict=True))
    mean = sum(window.weight * float(part.sum()) for window, part in zip(windows, nll, strict=True)) / units
    value = _exp(mean)
    residuals = [window.weight * part - mean * _unit(window) for window, part in zip(windows, nll, strict=True)]
    tokens = sum(part.size for part in nll)
    return Perplexity(value, value * sum_error(residuals) / units, mean, tokens, _bits_per_byte(nll, windows))


def _bits_per_byte(nll: Sequence[Vector], windows: Sequence[Window]) -> float:
    text_bytes = sum(math.nan if window.text_bytes is None else window.text_bytes for window in windows)
    return sum(float(part.sum()) for part in nll) / math.log(2) / text_bytes if text_bytes else math.nan


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST else math.inf
