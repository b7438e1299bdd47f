"""The GPUs of this machine, asked of NVIDIA's driver itself: no CUDA toolkit and no TVM."""

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_VERSION = Path("/proc/driver/nvidia/version")
_NUMBERS = re.compile(r"\d+\.\d+(?:\.\d+)?")
_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16  # cuDeviceGetAttribute


@dataclass(frozen=True)
class Gpu:
    """Its marketing name, its architecture as ``sm_90``, its multiprocessors, its memory, and its place on the bus."""

    name: str
    architecture: str
    processors: int
    memory_bytes: int = 0
    bus: str = ""


@dataclass(frozen=True)
class Gpus:
    """What was found, or what stands in the way of looking; and the driver's version."""

    found: tuple[Gpu, ...]
    obstacle: str = ""
    driver: str = ""


@cache
def gpus() -> Gpus:
    """The GPUs in the driver's order; none where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Gpus((), "there is no NVIDIA driver")
    return ask(driver, _VERSION)


def ask(driver: Any, version: Path) -> Gpus:
    """What a driver's library says; ``version`` is the file in which Linux's part of it says its own."""
    if status := driver.cuInit(0):
        return Gpus((), f"the NVIDIA driver does not start (status {status})")
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return Gpus(tuple(_gpu(driver, index) for index in range(count.value)), driver=_driver_version(version))


def _driver_version(file: Path) -> str:
    """As ``580.95.05``; nothing where the file does not tell."""
    try:
        match = _NUMBERS.search(file.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return match[0] if match else ""


def _gpu(driver: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    nbytes, bus = ctypes.c_size_t(), ctypes.create_string_buffer(32)
    driver.cuDeviceTotalMem_v2(ctypes.byref(nbytes), device)
    driver.cuDeviceGetPCIBusId(bus, len(bus), device)
    architecture = f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}"
    return Gpu(name.value.decode(), architecture, attribute(_PROCESSORS), nbytes.value, bus.value.decode())
