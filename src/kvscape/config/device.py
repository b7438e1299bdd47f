"""Devices as people name them: ``cpu``, ``cuda``, ``cuda:1``."""

import re

from kvscape.errors import DeviceError

_CUDA = re.compile(r"cuda(?::(\d+))?")


def cuda_index(device: str) -> int | None:
    """The number of a GPU, None for the processor; raise DeviceError for what kvscape does not run on."""
    if device in ("cpu", "cpu:0"):
        return None
    if match := _CUDA.fullmatch(device):
        return int(match[1] or 0)
    raise DeviceError(
        f"device {device!r} cannot run here", "kvscape runs on the CPU and on NVIDIA GPUs", "use --device cpu"
    )
