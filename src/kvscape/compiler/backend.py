"""What building a library needs to know of a kind of device: its kernels and their limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvscape.compiler.cuda_target import CudaTarget
from kvscape.compiler.device_code import device_code
from kvscape.compiler.kernels.cpu.attention import RANGE as CPU_RANGE
from kvscape.compiler.kernels.cpu.attention import tile_tokens as cpu_tile_tokens
from kvscape.compiler.kernels.cpu.isa import ISAS
from kvscape.compiler.kernels.cpu.load_block import LANES
from kvscape.compiler.kernels.cpu.pages import TOKENS
from kvscape.compiler.kernels.cpu.registry import CPU_KERNELS
from kvscape.compiler.kernels.cuda import attention, choices
from kvscape.compiler.kernels.cuda.registry import cuda_kernels
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu import attention as webgpu_attention
from kvscape.compiler.kernels.webgpu import choices as webgpu_choices
from kvscape.compiler.kernels.webgpu import pages as webgpu_pages
from kvscape.compiler.kernels.webgpu.registry import WEBGPU_KERNELS
from kvscape.compiler.shaders import library_shaders
from kvscape.compiler.target import CpuTarget, Target
from kvscape.compiler.webgpu_target import WebgpuTarget

Dispatch = Callable[[Operator], Kernel | None]


@dataclass(frozen=True)
class Backend:
    """``dispatch`` gives an operator its kernel; sizes must be multiples of ``multiples``; ``device_code`` makes what
    goes beside the object files of a module."""

    dispatch: Dispatch
    multiples: tuple[tuple[str, int], ...]
    tile_tokens: Callable[[int], int]
    range_tokens: int
    page_size_multiple: int
    device_code: Callable[[Any], Any] | None = None
    draw_ints: Callable[[int], int] = lambda vocab_size: 0
    """Numbers that its kernel ``sample`` takes for each draw from so many tokens; 0 where it has none, nor ``edit`` and
    ``token_logprobs``."""
    scratch_is_given: bool = False
    """Whether the device gives steps their scratch memory."""
    gated_dtype: str = ""
    """What products write that have their gates inside; "" where there are none."""


def find_backend(target: Target) -> Backend:
    """The backend of a target."""
    if isinstance(target, WebgpuTarget):
        return _webgpu()
    return _cuda(target) if isinstance(target, CudaTarget) else _cpu(target)


def _cpu(target: CpuTarget) -> Backend:
    isa = ISAS[target.name]

    def dispatch(op: Operator) -> Kernel | None:
        return CPU_KERNELS[op.name](isa, op) if op.name in CPU_KERNELS else None

    multiples = (("head_dim", 2 * LANES), ("intermediate_size", LANES))
    return Backend(dispatch, multiples, cpu_tile_tokens, CPU_RANGE, TOKENS)


def _cuda(target: CudaTarget) -> Backend:
    kernels = cuda_kernels(target.name)

    def dispatch(op: Operator) -> Kernel | None:
        if op.name == "linear" and str(op.tensors[0].ty.dtype) != "float16":
            return None
        return kernels[op.name](op) if op.name in kernels else None

    multiples = (("head_dim", 32), ("hidden_size", 8), ("intermediate_size", 8))
    code = lambda mod: device_code(mod, target.name)  # noqa: E731
    return Backend(
        dispatch,
        multiples,
        attention.tile_tokens,
        attention.RANGE,
        attention.PAGE_MULTIPLE,
        code,
        choices.draw_ints,
        scratch_is_given=True,
        gated_dtype="float16",
    )


def _webgpu() -> Backend:
    def dispatch(op: Operator) -> Kernel | None:
        return WEBGPU_KERNELS[op.name](op) if op.name in WEBGPU_KERNELS else None

    multiples = (("head_dim", 16), ("hidden_size", 4), ("intermediate_size", 4))
    tile_tokens, range_tokens = webgpu_attention.tile_tokens, webgpu_attention.RANGE
    pages = webgpu_pages.PAGE_MULTIPLE
    return Backend(
        dispatch,
        multiples,
        tile_tokens,
        range_tokens,
        pages,
        library_shaders,
        webgpu_choices.draw_ints,
    )
