"""The operators that models are written in: calls by name, which the compiler's DispatchKernels turns into kernels.

A name and its arguments say all that a kernel needs; which kernel runs is the target's business. Strings and numbers
among the arguments are constants of the kernel.
"""

from typing import Any

from tvm import ir, relax, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.core import wrap_nested

PREFIX = "kvscape."
Tensor = Any


def call(name: str, args: list[Any], out: Any) -> Any:
    """Emit one operator; ``out`` is a placeholder tensor, or a list of them."""
    outs = out if isinstance(out, list) else [out]
    types = [tensor._expr.ty for tensor in outs]
    # nn.op.extern cannot return several tensors in this TVM: its output types arrive as one tuple type.
    expr = relax.call_dps_packed(PREFIX + name, relax.Tuple([argument(arg) for arg in args]), types)
    return wrap_nested(relax.BlockBuilder.current().emit(expr, name), name)


def placeholder(shape: list[Any], dtype: str = "float32") -> Tensor:
    """A tensor that stands for an operator's result."""
    return nn.Tensor.placeholder(shape, dtype)


def argument(value: Any) -> Any:
    """A Relax expression for an operator's argument: a tensor, a string or a number."""
    if isinstance(value, str):
        return ir.StringImm(value)
    if isinstance(value, int):
        return relax.prim_value(tirx.IntImm("int64", value))
    if isinstance(value, float):
        return relax.prim_value(tirx.FloatImm("float64", value))
    return value._expr if isinstance(value, nn.Tensor) else value
