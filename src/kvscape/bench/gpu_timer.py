"""How long each of many launches takes on a GPU, by events between them."""

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from kvscape.bench.gpu_driver import WARP, GpuDriver
from kvscape.bench.replay import Call

# Work that takes some 30 ms: launches queue behind it, so that the GPU does not wait for the host between them.
_ROUNDS = 200_000
_MS = 1e-3


class GpuTimer:
    """``timed(calls, functions)`` gives the seconds of each."""

    def __init__(self, driver: GpuDriver) -> None:
        self._driver = driver

    def timed(self, calls: Sequence[Call], functions: Sequence[Callable[..., Any]]) -> list[float]:
        events, out = [self._event() for _ in range(len(calls) + 1)], self._driver.allocated(4)
        try:
            self._driver.products(1, WARP, _ROUNDS, out)()
            self._record(events[0])
            for call, function, event in zip(calls, functions, events[1:], strict=True):
                function(*call.arguments)
                self._record(event)
            self._driver.synchronize()
            return [self._seconds(*pair) for pair in pairwise(events)]
        finally:
            self._driver.free(out)
            for event in events:
                self._driver.call("cuEventDestroy_v2", event)

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self._driver.call("cuEventCreate", ctypes.byref(event), 0)
        return event

    def _record(self, event: ctypes.c_void_p) -> None:
        self._driver.call("cuEventRecord", event, None)

    def _seconds(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        elapsed_ms = ctypes.c_float()
        self._driver.call("cuEventElapsedTime", ctypes.byref(elapsed_ms), start, end)
        return elapsed_ms.value * _MS
