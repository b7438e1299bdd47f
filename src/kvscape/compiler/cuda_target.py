"""CUDA targets: one for each architecture, named as NVIDIA names it: ``sm_90``.

Imports no TVM. Compiling for a target needs no GPU; running needs one of the same architecture.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kvscape.analysis.cuda import Gpus, gpus
from kvscape.config import GPU_KV_DTYPES, library_kv_dtypes
from kvscape.errors import ConfigError, DeviceError
from kvscape.quantization.layouts import LAYOUTS, Layout

LEAST = 80
_NAME = re.compile(r"sm_(\d{2,3})")
_LIMITS = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 49152, "thread_warp_size": 32}


@dataclass(frozen=True)
class CudaTarget:
    """A GPU's architecture; ``name`` goes into file names, ``tvm`` into TVM and into cache keys."""

    name: str

    @property
    def layout(self) -> Layout:
        """The layout of packed weights that the target's kernels read."""
        return LAYOUTS["fragments"]

    @property
    def tvm(self) -> Mapping[str, Any]:
        """TVM's target; the code that launches kernels runs on any processor of this machine's kind."""
        return MappingProxyType({"kind": "cuda", "arch": self.name, **_LIMITS, "host": {"kind": "llvm"}})

    def library_kv_dtypes(self, kv_dtype: str) -> tuple[str, ...]:
        """The KV precisions of the library that has ``kv_dtype``."""
        return library_kv_dtypes(kv_dtype, GPU_KV_DTYPES)

    def activation(self, asked: str) -> str:
        """What products read: f16, whatever was asked for; that is more precise than the CPU's 8 bit."""
        return "float16"

    @property
    def lacking(self) -> tuple[str, ...]:
        """What this machine lacks to run the target's code."""
        return () if any(gpu.architecture == self.name for gpu in gpus().found) else (f"a GPU of {self.name}",)


def is_cuda(name: str) -> bool:
    """Whether a target's name is that of a CUDA architecture."""
    return _NAME.fullmatch(name) is not None


def find_cuda_target(name: str) -> CudaTarget:
    """Return an architecture's target; raise ConfigError for one that the kernels are not written for."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) < LEAST:
        raise ConfigError(
            f"target {name!r}", f"the CUDA kernels need sm_{LEAST} or newer", f"choose sm_{LEAST}, sm_90 …"
        )
    return CudaTarget(name)


def detect_cuda_target(device: str, index: int, known: Gpus | None = None) -> CudaTarget:
    """Return the target of a GPU, of this machine if no others are ``known``; raise DeviceError where it cannot run."""
    known = known or gpus()
    what, do = f"device {device!r} cannot run here", "use --device cpu"
    if known.obstacle or index >= len(known.found):
        raise DeviceError(what, known.obstacle or f"GPUs that this machine has: {len(known.found)}, counted from 0", do)
    gpu = known.found[index]
    try:
        return find_cuda_target(gpu.architecture)
    except ConfigError as error:
        raise DeviceError(what, f"{gpu.name} is {gpu.architecture}: {error.why}", do) from None
