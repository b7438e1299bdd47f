"""Which CPU kernel runs each operator. Adding a kernel is adding a file and a line at the end of this one."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kvscape.compiler.kernels.cpu import (
    attention,
    elementwise,
    embedding,
    float_matmul,
    gated,
    greedy,
    group_append,
    head_norm,
    logprobs,
    quantize,
    rms_norm,
    rope_append,
)
from kvscape.compiler.kernels.cpu.int8_matmul import int8_matmul
from kvscape.compiler.kernels.cpu.isa import Isa
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.config import KVPrecision


def _linear(isa: Isa, op: Operator) -> Kernel:
    fmt, (_, N, K), (x, *arrays) = op.format, op.constants, op.tensors
    if fmt.is_float:
        name, build = "float_matmul", lambda: float_matmul.float_matmul(isa.rows, fmt, N, K)
    else:
        name, build = "dequantized_matmul", lambda: float_matmul.dequantized_matmul(isa.rows, fmt, N, K)
    return Kernel(f"{name}_{fmt.name}_{N}x{K}", build, (*arrays, x))


def _int8_linear(isa: Isa, op: Operator) -> Kernel:
    fmt, (_, N, K), (codes, scale, total, *arrays) = op.format, op.constants, op.tensors
    return Kernel(
        f"int8_matmul_{isa.name}_{fmt.name}_{N}x{K}",
        lambda: int8_matmul(isa, fmt, N, K),
        (*arrays, codes, scale, total),
    )


def _quantize(isa: Isa, op: Operator) -> Kernel:
    K, (group,) = op.shape(0)[-1], op.constants
    return Kernel(f"quantize_{K}_by_{group}", lambda: quantize.quantize(K, group), op.tensors)


def _embedding(isa: Isa, op: Operator) -> Kernel:
    fmt, (_, N, K), (ids, *arrays) = op.format, op.constants, op.tensors
    build = embedding.float_embedding if fmt.is_float else embedding.quantized_embedding
    return Kernel(f"embedding_{fmt.name}_{N}x{K}", lambda: build(isa.rows, fmt, N, K), (*arrays, ids))


def _take_rows(isa: Isa, op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(f"take_rows_{K}", lambda: embedding.take_rows(K), op.tensors)


def _rms_norm(isa: Isa, op: Operator) -> Kernel:
    K, (eps,) = op.shape(0)[-1], op.constants
    return Kernel(f"rms_norm_{K}", lambda: rms_norm.rms_norm(K, eps), op.tensors)


def _add_rms_norm(isa: Isa, op: Operator) -> Kernel:
    K, (eps,) = op.shape(0)[-1], op.constants
    return Kernel(f"add_rms_norm_{K}", lambda: rms_norm.add_rms_norm(K, eps), op.tensors)


def _add_rms_norm_quantize(isa: Isa, op: Operator) -> Kernel:
    K, (eps, group) = op.shape(0)[-1], op.constants
    return Kernel(
        f"add_rms_norm_quantize_{K}_by_{group}", lambda: rms_norm.add_rms_norm_quantize(K, eps, group), op.tensors
    )


def _swiglu(isa: Isa, op: Operator) -> Kernel:
    K = op.shape(0)[-1] // 2
    return Kernel(f"swiglu_{K}", lambda: gated.swiglu(K), op.tensors)


def _swiglu_quantize(isa: Isa, op: Operator) -> Kernel:
    K, (group,) = op.shape(0)[-1] // 2, op.constants
    return Kernel(f"swiglu_quantize_{K}_by_{group}", lambda: gated.swiglu_quantize(K, group), op.tensors)


def _geglu(isa: Isa, op: Operator) -> Kernel:
    K = op.shape(0)[-1] // 2
    return Kernel(f"geglu_{K}", lambda: gated.geglu(K), op.tensors)


def _geglu_quantize(isa: Isa, op: Operator) -> Kernel:
    K, (group,) = op.shape(0)[-1] // 2, op.constants
    return Kernel(f"geglu_quantize_{K}_by_{group}", lambda: gated.geglu_quantize(K, group), op.tensors)


def _add_bias(isa: Isa, op: Operator) -> Kernel:
    K = op.shape(0)[-1]
    return Kernel(f"add_bias_{K}", lambda: elementwise.add_bias(K), op.tensors)


def _scale(isa: Isa, op: Operator) -> Kernel:
    K, (factor,) = op.shape(0)[-1], op.constants
    return Kernel(f"scale_{K}", lambda: elementwise.scale(K, factor), op.tensors)


def _soft_cap(isa: Isa, op: Operator) -> Kernel:
    K, (cap,) = op.shape(0)[-1], op.constants
    return Kernel(f"soft_cap_{K}", lambda: elementwise.soft_cap(K, cap), op.tensors)


def _head_norm(isa: Isa, op: Operator) -> Kernel:
    q_heads, heads, D, eps = op.constants
    return Kernel(f"head_norm_{D}", lambda: head_norm.head_norm(q_heads, heads, D, eps), op.tensors)


def _rope_frequencies(isa: Isa, op: Operator) -> Kernel:
    D, (length,) = 2 * op.shape(0)[0], op.constants
    return Kernel(f"rope_frequencies_{D}", lambda: rope_append.rope_frequencies(D, length), op.tensors)


def _rope_table(isa: Isa, op: Operator) -> Kernel:
    # One model may have a table with a factor and one without: they are two kernels.
    D, (factor,) = 2 * op.shape(1)[0], op.constants
    name = f"rope_table_{D}" if factor == 1 else f"rope_table_{D}_scaled"
    return Kernel(name, lambda: rope_append.rope_table(D, factor), op.tensors)


def _rope_append(isa: Isa, op: Operator) -> Kernel:
    layer, q_heads, pages, rotary, *_ = _attention(op)
    return Kernel(
        f"rope_append_{pages.precision.identifier}",
        lambda: rope_append.rope_append(pages, q_heads, rotary),
        (*op.tensors, layer),
        inplace=(-1, -1, 4),
    )


def _group_append(isa: Isa, op: Operator) -> Kernel:
    layer, q_heads, pages, rotary, *_ = _attention(op)
    return Kernel(
        f"group_append_{pages.precision.identifier}",
        lambda: group_append.group_append(pages, q_heads, rotary),
        (*op.tensors, layer),
        inplace=(-1, 5, 6),
    )


def _paged_attention(isa: Isa, op: Operator) -> Kernel:
    layer, q_heads, pages, _, scale, soft_cap = _attention(op)
    name = f"paged_attention_{pages.precision.identifier}"
    return Kernel(name, lambda: attention.paged_attention(pages, q_heads, scale, soft_cap), (*op.tensors, layer))


def _attention(op: Operator) -> tuple[int, int, Pages, int, float, float]:
    """The layer's index, its query heads, its pages, the rotated dimensions, the scores' factor and their soft cap."""
    layer, kv_dtype, q_heads, heads, dim, rotary, scale, soft_cap = op.constants
    return layer, q_heads, Pages(KVPrecision.parse(kv_dtype), heads, dim), rotary, scale, soft_cap


def _logprobs(isa: Isa, op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("logprobs", lambda: logprobs.logprobs(V), op.tensors)


def _greedy(isa: Isa, op: Operator) -> Kernel:
    V = op.shape(0)[-1]
    return Kernel("greedy", lambda: greedy.greedy(V), op.tensors, inplace=(1,))


CPU_KERNELS: Mapping[str, Callable[[Isa, Operator], Kernel]] = MappingProxyType(
    {
        "linear": _linear,
        "int8_linear": _int8_linear,
        "quantize": _quantize,
        "embedding": _embedding,
        "take_rows": _take_rows,
        "rms_norm": _rms_norm,
        "add_rms_norm": _add_rms_norm,
        "add_rms_norm_quantize": _add_rms_norm_quantize,
        "swiglu": _swiglu,
        "swiglu_quantize": _swiglu_quantize,
        "geglu": _geglu,
        "geglu_quantize": _geglu_quantize,
        "add_bias": _add_bias,
        "scale": _scale,
        "soft_cap": _soft_cap,
        "head_norm": _head_norm,
        "rope_frequencies": _rope_frequencies,
        "rope_table": _rope_table,
        "rope_append": _rope_append,
        "group_append": _group_append,
        "paged_attention": _paged_attention,
        "logprobs": _logprobs,
        "greedy": _greedy,
    }
)
