"""Where a reference's rows come from: a file, or a model that runs beside the candidate."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from kvscape.quality.distributions import Floats, Ids
from kvscape.quality.divergence import ReferencePart, WholePart
from kvscape.quality.protocols import Window
from kvscape.quality.reference_logits import ReferenceLogits
from kvscape.quality.row_scorer import Predictor, scored_rows


class Reference(Protocol):
    """The distributions that a candidate's are compared with, in the order of the windows."""

    def part(self, window: int, targets: Ids) -> ReferencePart:
        """The next rows of a window, one for each of ``targets``."""
        ...


class StoredReference:
    """The rows of a file."""

    def __init__(self, logits: ReferenceLogits) -> None:
        self._logits, self._done = logits, 0

    def part(self, window: int, targets: Ids) -> ReferencePart:
        first, self._done = self._done, self._done + len(targets)
        return self._logits.part(first)


class LiveReference:
    """A subject that computes each window when the candidate does; nothing is kept."""

    def __init__(self, subject: Predictor, windows: Sequence[Window]) -> None:
        self._subject, self._windows = subject, windows
        self._window, self._rows = -1, _Rows(iter(()))

    def part(self, window: int, targets: Ids) -> ReferencePart:
        if window != self._window:
            self._window, self._rows = window, _Rows(scored_rows(self._subject, self._windows[window]))
        return WholePart(self._rows.take(len(targets)), targets)


class _Rows:
    """Chunks of rows cut again: the two subjects need not have the same chunks."""

    def __init__(self, chunks: Iterator[tuple[Floats, Ids]]) -> None:
        self._chunks = chunks
        self._left: Floats | None = None

    def take(self, number: int) -> Floats:
        """The next rows; they are a view where one chunk has them all."""
        parts: list[Floats] = []
        while number > 0:
            if self._left is None or not len(self._left):
                parts = [part.copy() for part in parts]  # the next chunk may be written over them
                self._left = next(self._chunks)[0]
            parts.append(self._left[:number])
            self._left = self._left[number:]
            number -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
