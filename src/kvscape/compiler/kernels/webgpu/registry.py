"""Which WebGPU kernel runs each operator. Adding a kernel is adding a shader and a line at the end."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.kernels.webgpu import attention, choices, linear, rope, rows

WEBGPU_KERNELS: Mapping[str, Callable[[Operator], Kernel]] = MappingProxyType(
    {
        "linear": linear.linear,
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
        "rope_frequencies": rope.rope_frequencies,
        "rope_table": rope.rope_table,
        "rope_append": rope.rope_append,
        "group_append": rope.group_append,
        "paged_attention": attention.paged_attention,
        "logprobs": choices.logprobs,
        "greedy": choices.greedy,
        "sample": choices.sample,
        "edit": choices.edit,
        "token_logprobs": choices.token_logprobs,
    }
)
