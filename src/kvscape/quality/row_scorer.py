"""Scores that are read from whole distributions, so that somebody can look at these on the way."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvscape.quality.distributions import Doubles, Floats, Ids
from kvscape.quality.protocols import Window

Look = Callable[[int, Floats, Ids], Doubles]
"""Number of a window, some of its scored rows of logits and their right tokens -> the tokens' log-probabilities."""


class Predictor(Protocol):
    """Whatever gives whole distributions; a ``Subject`` does."""

    def distributions(self, token_ids: Sequence[int]) -> Iterator[Floats]: ...


class RowScorer:
    """A ``Scorer`` of the windows, one after the other."""

    def __init__(self, subject: Predictor, windows: Sequence[Window], look: Look) -> None:
        self._subject, self._windows, self._look = subject, windows, look
        self._done = 0

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Log-probabilities of the next window's tokens; those that do not count are 0."""
        number, window = self._done, self._windows[self._done]
        if list(token_ids) != window.token_ids:
            raise RuntimeError(f"window {number} is not the one that comes next")
        self._done += 1
        yield np.zeros(window.first_target - 1, np.float32)
        for logits, targets in scored_rows(self._subject, window):
            yield self._look(number, logits, targets).astype(np.float32)


def scored_rows(subject: Predictor, window: Window) -> Iterator[tuple[Floats, Ids]]:
    """The rows of logits that count, chunk by chunk, and the tokens that really come: [rows, vocab_size], [rows]."""
    targets = np.asarray(window.token_ids[1:], np.int64)
    reached, context = 0, window.first_target - 1
    for logits in subject.distributions(window.token_ids):
        start, end = max(reached, context), reached + len(logits)
        if start < end:
            yield logits[start - reached :], targets[start:end]
        reached = end
