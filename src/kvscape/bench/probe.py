"""A short probe of a device's two limits: of the processor with numpy, of a GPU with its driver or wgpu."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.roofline import DeviceRates
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.bench.gpu_probe import GpuProbe
from kvscape.bench.host_probe import token_s
from kvscape.bench.webgpu_probe import WebgpuProbe
from kvscape.config import adapter_name, cuda_index
from kvscape.results import current_environment

PASS_S = 0.05
PASSES = 4
MATRIX = 768


def measure_rates(nbytes: int, threads: int | None = None, device: str = "cpu") -> DeviceRates:
    """Measure the limits in about half a second.

    On a processor bytes are read from a buffer of ``nbytes``, the weights' size: a small model may live in its cache.
    Arithmetic is a float32 matrix product of numpy's BLAS: integer kernels with 8-bit dot products can pass it.
    """
    if (name := adapter_name(device)) is not None:
        adapter = WebgpuProbe(device, name)
        return DeviceRates(adapter.copied_bytes_per_s(), adapter.operations_per_s(), adapter.call_s(), token_s())
    if (index := cuda_index(device)) is not None:
        gpu = GpuProbe(GpuDriver(index))
        return DeviceRates(gpu.copied_bytes_per_s(), gpu.operations_per_s(), gpu.call_s(), token_s())
    cores = current_environment().cores
    share = min(1.0, (threads or cores) / cores)  # BLAS takes all cores
    return DeviceRates(memory_bytes_per_s(nbytes, threads or cores), share * _operations_per_s())


def memory_bytes_per_s(nbytes: int, threads: int) -> float:
    """Speed at which threads read a buffer again and again."""
    parts = np.array_split(np.ones(max(nbytes // 4, threads * 1024), np.float32), threads)
    size = sum(part.nbytes for part in parts)
    with ThreadPoolExecutor(threads) as pool:
        return size * best_rate(lambda: list(pool.map(_read, parts)))


def _read(part: NDArray[np.float32]) -> float:
    return float(part.max())  # vectorised and without the dependence between additions that slows a sum


def _operations_per_s() -> float:
    a = np.ones((MATRIX, MATRIX), np.float32)
    out = np.empty_like(a)
    return 2.0 * MATRIX**3 * best_rate(lambda: np.matmul(a, a, out=out))


def best_rate(call: Callable[[], object]) -> float:
    """Calls a second in the best of some passes of ``PASS_S`` seconds: a disturbed pass says nothing of the machine."""
    call()
    return max(_rate(call) for _ in range(PASSES))


def usual_s(call: Callable[[], object]) -> float:
    """Seconds of a short call: the median, since beside other work a thread waits a thousand calls for its core."""
    call()
    times_s, end_s = list[float](), time.perf_counter() + PASSES * PASS_S
    while not times_s or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return float(np.median(times_s))


def _rate(call: Callable[[], object]) -> float:
    start, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= PASS_S:
            return calls / elapsed
