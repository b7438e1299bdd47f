"""Which CUDA kernel runs each operator. Adding a kernel is adding a device function and a line here."""

from collections.abc import Callable, Mapping
from functools import partial

from kvscape.compiler.kernels.cuda import attention, choices, linear, products, rows
from kvscape.compiler.kernels.kernel import Kernel, Operator

OfOperator = Callable[[Operator], Kernel]


def cuda_kernels(architecture: str) -> Mapping[str, OfOperator]:
    """What finds an operator's kernel, by its name."""
    product = partial(linear.linear, many=products.many(architecture))
    return {
        **dict.fromkeys(("linear", "linear_swiglu", "linear_geglu"), product),
        "embedding": linear.embedding,
        "take_rows": rows.take_rows,
        "rms_norm": rows.rms_norm,
        "add_rms_norm": rows.add_rms_norm,
        "swiglu": rows.gated,
        "geglu": rows.gated,
        "add_bias": rows.add_bias,
        "scale": rows.scale,
        "soft_cap": rows.soft_cap,
        "head_norm": rows.head_norm,
        "rope_frequencies": attention.rope_frequencies,
        "rope_table": attention.rope_table,
        "rope_append": attention.rope_append,
        "group_append": attention.group_append,
        "paged_attention": attention.paged_attention,
        "logprobs": choices.logprobs,
        "greedy": choices.greedy,
        "sample": choices.sample,
        "edit": choices.edit,
        "token_logprobs": choices.token_logprobs,
    }
