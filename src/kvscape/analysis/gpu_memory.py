"""The memory of a GPU, asked of NVIDIA's management library: no context is made, which would take memory itself."""

import ctypes
from typing import Any

from kvscape.analysis.cuda import Gpu, gpus


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def free_gpu_bytes(index: int) -> int:
    """Bytes that a new process can have, its context included; all of the GPU's where nobody tells, 0 of no GPU."""
    found = gpus().found
    if index >= len(found):
        return 0
    try:
        management = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return found[index].memory_bytes
    return ask_free(management, found[index])


def ask_free(management: Any, gpu: Gpu) -> int:
    """What the management library says of a GPU, which it finds at its place on the bus."""
    handle, memory = ctypes.c_void_p(), _Memory()
    found = (
        management.nvmlInit_v2() == 0
        and management.nvmlDeviceGetHandleByPciBusId_v2(gpu.bus.encode(), ctypes.byref(handle)) == 0
        and management.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    )
    return int(memory.free) if found else gpu.memory_bytes
