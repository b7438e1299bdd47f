"""QuantizeActivations: a product with integer weights becomes quantize + an integer product."""

from typing import Any

from tvm import relax

from kvscape.compiler.passes.operators import emit_operator, out_types, read_operator
from kvscape.quantization.format import FORMATS

GROUP = 32


@relax.expr_functor.mutator
class _Mutator(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        op = read_operator(call)
        if op is None or op.name != "linear" or FORMATS[op.constants[0]].is_float:
            return call
        x, *arrays = op.tensors
        n, K = x.ty.shape.values
        groups = int(K.value) // GROUP
        types = [
            relax.TensorType((n, K), "int8"),
            relax.TensorType((n, groups), "float32"),
            relax.TensorType((n, groups), "int32"),
        ]
        quantized = self.builder_.emit(emit_operator("quantize", [x], types))
        parts = [self.builder_.emit(relax.TupleGetItem(quantized, i)) for i in range(3)]
        return emit_operator("int8_linear", [*parts, *op.constants, *arrays], out_types(call))


class QuantizeActivations:
    """Runs before DispatchKernels, which then finds only operators that are kernels."""

    def __call__(self, mod: Any) -> Any:
        mutator = _Mutator(mod)
        for gvar, function in mod.functions_items():
            if isinstance(function, relax.Function):
                mutator.builder_.update_func(gvar, mutator.visit_expr(function))
        return mutator.builder_.get()
