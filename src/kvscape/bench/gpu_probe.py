"""A GPU's limits: copying, products on tensor cores, and launching."""

import ctypes
import time
from collections.abc import Callable

from kvscape.bench.gpu_driver import PRODUCT_OPERATIONS, PRODUCTS, WARP, GpuDriver
from kvscape.errors import DeviceError

_LEAST_COPY_BYTES, _MOST_COPY_BYTES = 1 << 20, 1 << 29
_COPIES, _CALLS, _PASSES = 20, 500, 4
_BLOCKS_PER_PROCESSOR, _THREADS, _ROUNDS, _FEW_ROUNDS = 4, 256, 4000, 2


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

    def call_s(self) -> float:
        """Seconds from one kernel to the next of many that do next to nothing on all processors, as one graph."""
        driver, out = self._driver, self._driver.allocated(4)
        launch = driver.products(driver.processors, _THREADS, _FEW_ROUNDS, out)
        try:
            with driver.recorded(launch, _CALLS) as graph:
                return 1 / (_CALLS * self._rate(graph, 1))
        except DeviceError:  # a driver that cannot record: steps are launched one by one then, too
            return 1 / self._rate(launch, _CALLS)
        finally:
            driver.free(out)

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
