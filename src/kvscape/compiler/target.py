"""Which code a processor gets: LLVM's target, the instruction set of the kernels, the weights' packed layout.

Imports no TVM, so that a compiled library can be looked up without it.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from kvscape.analysis.adapters import find_adapter
from kvscape.analysis.cpu import cpu_features
from kvscape.compiler.cuda_target import CudaTarget, detect_cuda_target, find_cuda_target, is_cuda
from kvscape.compiler.webgpu_target import WGSL, WebgpuTarget
from kvscape.config import adapter_name, cuda_architecture, cuda_index, library_kv_dtypes
from kvscape.errors import ConfigError, near_match
from kvscape.quantization.layouts import LAYOUTS, Layout


@dataclass(frozen=True)
class Architecture:
    """The names that systems give a family of processors, and LLVM's for one that is not this machine's."""

    machines: tuple[str, ...] = ()
    triple: str = ""

    @property
    def is_here(self) -> bool:
        """Whether this machine is one of the family; no name at all stands for any machine."""
        return not self.machines or platform.machine() in self.machines


_ANY = Architecture()
_X86 = Architecture(("x86_64", "AMD64"), "x86_64-linux-gnu")
_ARM = Architecture(("aarch64", "arm64"), "aarch64-linux-gnu")


@dataclass(frozen=True)
class CpuTarget:
    """A named CPU target; ``name`` goes into file names, ``llvm`` into TVM and into cache keys.

    ``features`` are what a processor of the architecture must have, as ``cpu_features`` names them.
    """

    name: str
    layout_name: str
    architecture: Architecture = _ANY
    features: tuple[str, ...] = ()
    mcpu: str = ""
    mattr: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """The layout of packed weights that the target's kernels read."""
        return LAYOUTS[self.layout_name]

    @property
    def llvm(self) -> Mapping[str, Any]:
        """TVM's target: code for this system, or for Linux where the architecture is another."""
        triple = "" if self.architecture.is_here else self.architecture.triple
        options = {"mtriple": triple, "mcpu": self.mcpu, "mattr": list(self.mattr)}
        return MappingProxyType({"kind": "llvm", **{key: value for key, value in options.items() if value}})

    @property
    def tvm(self) -> Mapping[str, Any]:
        return self.llvm

    def library_kv_dtypes(self, kv_dtype: str) -> tuple[str, ...]:
        """The KV precisions of the library that has ``kv_dtype``; ConfigError for one that the kernels lack."""
        return library_kv_dtypes(kv_dtype)

    def activation(self, asked: str) -> str:
        """What products read, as the user asked."""
        return asked

    @property
    def lacking(self) -> tuple[str, ...]:
        """What this processor lacks to run the target's code: the architecture, or features of it."""
        if not self.architecture.is_here:
            return self.architecture.machines[:1]
        return tuple(sorted(set(self.features) - set(cpu_features())))


Target: TypeAlias = CpuTarget | CudaTarget | WebgpuTarget

_AVX2 = ("avx2", "fma", "f16c")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512vl", "avx512_vnni")
# The best first.
_TARGETS = {
    target.name: target
    for target in (
        CpuTarget("avx512vnni", "rows16", _X86, _AVX512, "x86-64-v4", ("+avx512vnni",)),
        CpuTarget("avxvnni", "rows8", _X86, (*_AVX2, "avx_vnni"), "x86-64-v3", ("+avxvnni",)),
        CpuTarget("avx2", "rows8", _X86, _AVX2, "x86-64-v3"),
        CpuTarget("neon", "rows8", _ARM, ("asimddp",), mattr=("+v8.2a", "+dotprod")),
        CpuTarget("generic", "rows8"),
    )
}


def find_any_target(name: str) -> Target:
    """Return a target by name, a processor's or a GPU's; raise ConfigError naming the near match."""
    if name == WGSL.name:
        return WGSL
    return find_cuda_target(name) if is_cuda(name) else find_target(name)


def find_target(name: str) -> CpuTarget:
    """Return a CPU target by name; raise ConfigError naming the near match."""
    if name not in _TARGETS:
        raise ConfigError(f"unknown target {name!r}", "", near_match(name, _TARGETS))
    return _TARGETS[name]


def runs_here(name: str) -> bool:
    """Whether this machine runs the code of a target."""
    return not find_any_target(name).lacking


def detect_target() -> CpuTarget:
    """Return the best target that this processor runs."""
    return next(target for target in _TARGETS.values() if not target.lacking)


def device_target(device: str) -> Target:
    """Return the best target of a device, which an architecture stands for; raise DeviceError where it cannot run."""
    if architecture := cuda_architecture(device):
        return find_cuda_target(architecture)
    if (name := adapter_name(device)) is not None:
        find_adapter(device, name)
        return WGSL
    index = cuda_index(device)
    return detect_target() if index is None else detect_cuda_target(device, index)
