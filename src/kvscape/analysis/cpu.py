"""What the processor says of itself."""

import os
import platform
from functools import cache
from pathlib import Path

from kvscape.errors import ConfigError

# The instruction sets a kernel may ask for, as Linux names them; asimddp is NEON's dot product.
KNOWN_FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "amx_int8",
    "asimddp",
)


@cache
def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cpu_name() -> str:
    """The processor's marketing name, or its architecture where the system tells no more."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """The instruction sets among ``KNOWN_FEATURES`` that this processor has."""
    flags = set((_cpuinfo().get("flags") or _cpuinfo().get("Features", "")).split())
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        flags.add("asimddp")  # macOS has no such list, and all of Apple's own processors have it
    return tuple(name for name in KNOWN_FEATURES if name in flags)


def usable_threads(asked: int | None) -> int:
    """As many as are asked for, else one for each processor; raise ConfigError for more than there are."""
    if asked is None:
        return default_threads()
    most = os.cpu_count() or 1
    if not 1 <= asked <= most:
        raise ConfigError(f"threads = {asked}", f"this machine has {most}", f"use 1 to {most}")
    return asked


def default_threads() -> int:
    """One thread for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
