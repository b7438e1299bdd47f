"""The target of GPUs that are driven through WebGPU: one for all of them, since a driver compiles the shaders itself.

Imports no TVM. Compiling needs no GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kvscape.analysis.adapters import adapters
from kvscape.config import GPU_KV_DTYPES, library_kv_dtypes
from kvscape.quantization.layouts import LAYOUTS, Layout


@dataclass(frozen=True)
class WebgpuTarget:
    """Shaders in WGSL, and host code that launches them, which runs on any processor of this machine's kind."""

    name: str = "wgsl"

    @property
    def layout(self) -> Layout:
        """The layout of packed weights that the target's kernels read."""
        return LAYOUTS["words"]

    @property
    def tvm(self) -> Mapping[str, Any]:
        """TVM's target, of the host's half."""
        return MappingProxyType({"kind": "llvm"})

    def library_kv_dtypes(self, kv_dtype: str) -> tuple[str, ...]:
        """The KV precisions of the library that has ``kv_dtype``; ConfigError for one that the kernels lack."""
        return library_kv_dtypes(kv_dtype, GPU_KV_DTYPES)

    def activation(self, asked: str) -> str:
        """What products read: f32, whatever was asked for; that is more precise than the CPU's 8 bit."""
        return "float32"

    @property
    def lacking(self) -> tuple[str, ...]:
        """What this machine lacks to run the target's code."""
        return () if adapters().found else ("a Vulkan, Metal or DX12 driver",)


WGSL = WebgpuTarget()
