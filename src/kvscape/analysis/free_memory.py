"""Memory that can still be had."""

from pathlib import Path

import psutil

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_memory_bytes() -> int:
    """Memory that a new process can have: the machine's, or its container's limit where that is lower."""
    available = psutil.virtual_memory().available
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return available
    return min(available, int(limit)) if limit.isdigit() else available
