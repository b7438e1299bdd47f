"""Which code a processor gets: LLVM's target, the instruction set of the kernels, the weights' packed layout.

Imports no TVM, so that a compiled library can be looked up without it.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kvscape.analysis.cpu import cpu_features
from kvscape.errors import ConfigError, near_match
from kvscape.quantization.layouts import LAYOUTS, Layout

_NEEDED = {
    "avx512vnni": ("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx2", "fma", "f16c"),
    "avx2": ("avx2", "fma", "f16c"),
}
_MCPU = {"avx512vnni": "x86-64-v4", "avx2": "x86-64-v3"}
_MATTR = {"avx512vnni": ["+avx512vnni"]}
_LAYOUT = {"avx512vnni": "rows16", "avx2": "rows8", "generic": "rows8"}


@dataclass(frozen=True)
class CpuTarget:
    """A named CPU target; ``name`` goes into file names, ``llvm`` into TVM and into cache keys."""

    name: str
    llvm: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        """The layout of packed weights that the target's kernels read."""
        return LAYOUTS[_LAYOUT[self.name]]


def find_target(name: str) -> CpuTarget:
    """Return a target by name; raise ConfigError naming the near match."""
    if name not in _LAYOUT:
        raise ConfigError(f"unknown target {name!r}", "", near_match(name, _LAYOUT))
    llvm: dict[str, Any] = {"kind": "llvm"}
    if name in _MCPU:
        llvm["mcpu"] = _MCPU[name]
    if name in _MATTR:
        llvm["mattr"] = _MATTR[name]
    return CpuTarget(name, MappingProxyType(llvm))


def runs_here(name: str) -> bool:
    """Whether this processor has the instructions of a target."""
    needed = _NEEDED.get(name, ())
    return not needed or (platform.machine() in ("x86_64", "AMD64") and set(cpu_features()).issuperset(needed))


def detect_target() -> CpuTarget:
    """Return the best target that this processor runs."""
    return find_target(next(name for name in (*_NEEDED, "generic") if runs_here(name)))
