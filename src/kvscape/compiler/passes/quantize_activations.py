"""QuantizeActivations: a product with integer weights becomes quantize + an integer product."""

from typing import Any

from tvm import relax

from kvscape.compiler.passes.operators import emit_operator, out_types, read_operator
from kvscape.quantization.format import FORMATS, Format


@relax.expr_functor.mutator
class _Mutator(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        op = read_operator(call)
        if op is None or op.name != "linear" or FORMATS[op.constants[0]].is_float:
            return call
        x, *arrays = op.tensors
        fmt = FORMATS[op.constants[0]]
        quantized = self.builder_.emit(emit_operator("quantize", [x, fmt.group_size], _types(x, fmt)))
        parts = [self.builder_.emit(relax.TupleGetItem(quantized, i)) for i in range(3)]
        return emit_operator("int8_linear", [*parts, *op.constants, *arrays], out_types(call))


def _types(x: Any, fmt: Format) -> list[Any]:
    """Codes, which fill whole groups, and each group's scale and sum."""
    n, columns = x.ty.shape.values
    K = int(columns.value)
    shapes = ((fmt.padded(K), "int8"), (fmt.groups(K), "float32"), (fmt.groups(K), "int32"))
    return [relax.TensorType((n, size), dtype) for size, dtype in shapes]


class QuantizeActivations:
    """Runs before DispatchKernels, which then finds only operators that are kernels."""

    def __call__(self, mod: Any) -> Any:
        mutator = _Mutator(mod)
        for gvar, function in mod.functions_items():
            if isinstance(function, relax.Function):
                mutator.builder_.update_func(gvar, mutator.visit_expr(function))
        return mutator.builder_.get()
