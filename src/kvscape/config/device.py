"""Devices as people name them: ``cpu``, ``cuda``, ``cuda:1``; and ``cuda:sm_90``, which compiles for any such GPU."""

import re

from kvscape.errors import DeviceError

_CUDA = re.compile(r"cuda(?::(\d+))?")
_ARCHITECTURE = re.compile(r"cuda:(sm_\d+)")


def cuda_index(device: str) -> int | None:
    """The number of a GPU, None for the processor; raise DeviceError for what kvscape does not run on."""
    if device in ("cpu", "cpu:0"):
        return None
    if match := _CUDA.fullmatch(device):
        return int(match[1] or 0)
    if cuda_architecture(device) is not None:
        why = "it names GPUs to compile for, not the one to run on"
        raise DeviceError(f"device {device!r} cannot run here", why, "use --device cuda:0")
    raise DeviceError(
        f"device {device!r} cannot run here", "kvscape runs on the CPU and on NVIDIA GPUs", "use --device cpu"
    )


def cuda_architecture(device: str) -> str | None:
    """The architecture that a device names instead of a GPU: ``sm_90`` of ``cuda:sm_90``."""
    match = _ARCHITECTURE.fullmatch(device)
    return match[1] if match else None
