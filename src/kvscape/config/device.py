"""Devices as people name them: ``cpu``, ``cuda:1``, ``vulkan:0``; ``cuda:sm_90`` compiles for any such GPU."""

import re
from dataclasses import dataclass

from kvscape.errors import DeviceError

_CUDA = re.compile(r"cuda(?::(\d+))?")
_ARCHITECTURE = re.compile(r"cuda:(sm_\d+)")
_ADAPTER = re.compile(r"(vulkan|metal|dx12|webgpu)(?::(\d+))?")


@dataclass(frozen=True)
class AdapterName:
    """A GPU as ``wgpu`` counts them: the n-th of a backend, or of all for None."""

    backend: str | None
    index: int


def adapter_name(device: str) -> AdapterName | None:
    """What ``vulkan:1`` and the like name, None for another device."""
    match = _ADAPTER.fullmatch(device)
    if match is None:
        return None
    return AdapterName(None if match[1] == "webgpu" else match[1], int(match[2] or 0))


def cuda_index(device: str) -> int | None:
    """The number of a CUDA device, None for another; raise DeviceError for what kvscape does not run on."""
    if device in ("cpu", "cpu:0") or adapter_name(device) is not None:
        return None
    if match := _CUDA.fullmatch(device):
        return int(match[1] or 0)
    if cuda_architecture(device) is not None:
        why = "it names GPUs to compile for, not the one to run on"
        raise DeviceError(f"device {device!r} cannot run here", why, "use --device cuda:0")
    raise DeviceError(
        f"device {device!r} cannot run here", "kvscape runs on cpu, cuda, vulkan, metal and dx12", "use --device cpu"
    )


def is_gpu(device: str) -> bool:
    """Whether it is not the processor; raise DeviceError for what kvscape does not run on."""
    return adapter_name(device) is not None or cuda_index(device) is not None


def cuda_architecture(device: str) -> str | None:
    """The architecture that a device names instead of a GPU: ``sm_90`` of ``cuda:sm_90``."""
    match = _ARCHITECTURE.fullmatch(device)
    return match[1] if match else None
