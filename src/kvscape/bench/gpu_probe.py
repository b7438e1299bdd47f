"""A GPU's limits: copying, products on tensor cores, and launching."""

import ctypes
import time
from collections.abc import Callable

from kvscape.bench.gpu_driver import PRODUCT_OPERATIONS, PRODUCTS, WARP, GpuDriver

_LEAST_COPY_BYTES, _MOST_COPY_BYTES = 1 << 20, 1 << 29
_COPIES, _LAUNCHES, _PASSES = 20, 2000, 4
_BLOCKS_PER_PROCESSOR, _THREADS, _ROUNDS = 4, 256, 4000


class GpuProbe:
    """Measures one GPU, by its driver's clock of work that is done."""

    def __init__(self, driver: GpuDriver, clock: Callable[[], float] = time.perf_counter) -> None:
        self._driver, self._clock = driver, clock

    def copied_bytes_per_s(self) -> float:
        """Bytes read and bytes written in a second by copying a buffer that no cache holds."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        nbytes = max(_LEAST_COPY_BYTES, min(_MOST_COPY_BYTES, free.value // 4))
        buffers, size = [self._driver.allocated(nbytes) for _ in range(2)], ctypes.c_size_t(nbytes)
        try:
            rate = self._rate(lambda: self._driver.call("cuMemcpyDtoDAsync_v2", *buffers, size, None), _COPIES)
        finally:
            self._driver.free(*buffers)
        return 2 * nbytes * rate

    def operations_per_s(self) -> float:
        """Operations of f16 products with f32 sums, as the kernels of models do them; a multiply-add is two."""
        out, blocks = self._driver.allocated(4), _BLOCKS_PER_PROCESSOR * self._driver.processors
        try:
            rate = self._rate(self._driver.products(blocks, _THREADS, _ROUNDS, out), 1)
        finally:
            self._driver.free(out)
        return blocks * _THREADS / WARP * _ROUNDS * PRODUCTS * PRODUCT_OPERATIONS * rate

    def launch_s(self) -> float:
        """Seconds from one launch to the next of many that do nothing."""
        return 1 / self._rate(self._driver.nothing(), _LAUNCHES)

    def _rate(self, ask: Callable[[], None], times: int) -> float:
        """How often in a second what is asked for is done; the best of some passes."""
        ask()
        return times / min(self._seconds(ask, times) for _ in range(_PASSES))

    def _seconds(self, ask: Callable[[], None], times: int) -> float:
        self._driver.synchronize()
        start = self._clock()
        for _ in range(times):
            ask()
        self._driver.synchronize()
        return self._clock() - start
