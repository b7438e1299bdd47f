"""Memory that can still be had."""

from pathlib import Path

import psutil

from kvscape.analysis.gpu_memory import free_gpu_bytes
from kvscape.config import cuda_index

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_memory_bytes(device: str = "cpu") -> int:
    """Memory that a new process can have: the GPU's, or the machine's, or its container's limit where that is lower."""
    if (index := cuda_index(device)) is not None:
        return free_gpu_bytes(index)
    available = psutil.virtual_memory().available
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return available
    return min(available, int(limit)) if limit.isdigit() else available
