"""A short piece of fixed work: when it takes longer than usual, something else disturbs the machine."""

import time
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

WORK_S = 0.05
_MATRIX = 512
_READ_FLOATS = 1 << 22
_PASSES = 5
# Noise of a quiet machine stays below it; another process on one of two cores passes it.
DISTURBED_RATIO = 1.15


class Reference:
    """Takes about ``WORK_S`` seconds on all cores: products of matrices, and reading a buffer beyond most caches."""

    @cached_property
    def _buffers(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        matrix = np.ones((_MATRIX, _MATRIX), np.float32)
        return matrix, np.empty_like(matrix), np.ones(_READ_FLOATS, np.float32)

    @cached_property
    def _rounds(self) -> int:
        self._round()
        return max(1, round(WORK_S / min(_seconds(self._round) for _ in range(_PASSES))))

    def _round(self) -> None:
        matrix, out, buffer = self._buffers
        np.matmul(matrix, matrix, out=out)
        buffer.max()

    def __call__(self) -> float:
        """Seconds that the work takes now."""
        return _seconds(self._work)

    def _work(self) -> None:
        for _ in range(self._rounds):
            self._round()


class Watch:
    """Notes the reference's time again and again, and says whether the machine is as it usually is.

    Usual is the lower quartile of all times so far: a machine that is disturbed half of the time has quiet moments.
    """

    def __init__(self, reference: Callable[[], float]) -> None:
        self._reference = reference
        self._times_s: list[float] = []

    def look(self) -> float:
        """The reference's time as a share of the usual one."""
        missing = max(1, _PASSES - len(self._times_s))
        self._times_s += [self._reference() for _ in range(missing)]
        return self._times_s[-1] / float(np.percentile(self._times_s, 25))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
