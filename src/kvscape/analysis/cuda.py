"""The GPUs of this machine, asked of NVIDIA's driver itself: no CUDA toolkit and no TVM."""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16  # cuDeviceGetAttribute


@dataclass(frozen=True)
class Gpu:
    """Its marketing name, its architecture as ``sm_90``, and how many multiprocessors it has."""

    name: str
    architecture: str
    processors: int


@dataclass(frozen=True)
class Gpus:
    """What was found, or what stands in the way of looking."""

    found: tuple[Gpu, ...]
    obstacle: str = ""


@cache
def gpus() -> Gpus:
    """The GPUs in the driver's order; none where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Gpus((), "there is no NVIDIA driver")
    return ask(driver)


def ask(driver: Any) -> Gpus:
    """What a driver's library says."""
    if status := driver.cuInit(0):
        return Gpus((), f"the NVIDIA driver does not start (status {status})")
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return Gpus(tuple(_gpu(driver, index) for index in range(count.value)))


def _gpu(driver: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    return Gpu(name.value.decode(), f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}", attribute(_PROCESSORS))
