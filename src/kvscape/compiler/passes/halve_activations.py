"""HalveActivations: an operator whose result only products read writes f16, which is what tensor cores multiply."""

from typing import Any

import tvm_ffi
from tvm import ir, relax

from kvscape.compiler.passes.operators import emit_operator, map_functions, out_types, read_operator

# The first result of these may be f16.
HALVED = frozenset({"rms_norm", "add_rms_norm", "swiglu", "geglu", "paged_attention"})


def halve_activations(function: Any) -> Any:
    """Give the producers of products' inputs f16 results."""
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    values = {binding.var: binding.value for binding in bindings}
    wanted = _inputs_of_products(values)
    producers = {_producer(var, values) for var in wanted}
    stands_for: dict[Any, Any] = {}
    kept = [_rewritten(binding, producers, stands_for) for binding in bindings]
    body = relax.SeqExpr([relax.DataflowBlock(kept)], function.body.body)
    replaced = tvm_ffi.structural_map(body, (ir.Var, lambda var: stands_for.get(var, var)), order="post")
    return relax.Function(function.params, replaced, function.ret_ty, function.is_pure, function.attrs)


def _inputs_of_products(values: dict[Any, Any]) -> list[Any]:
    """Variables that products read and nothing else does."""
    products: list[Any] = []
    others: set[Any] = set()
    for value in values.values():
        op = read_operator(value) if isinstance(value, ir.Call) else None
        if op is not None and op.name == "linear":
            products.append(op.tensors[0])
        elif op is not None:
            others.update(tensor for tensor in op.tensors if isinstance(tensor, ir.Var))
    return [var for var in products if var not in others]


def _producer(var: Any, values: dict[Any, Any]) -> Any:
    """The variable of the operator whose first result ``var`` is; a product of something else finds no kernel."""
    value = values.get(var)
    return value.tuple_value if isinstance(value, relax.TupleGetItem) and value.index == 0 else var


def _rewritten(binding: Any, producers: set[Any], stands_for: dict[Any, Any]) -> Any:
    value = binding.value
    if isinstance(value, relax.TupleGetItem) and value.tuple_value in stands_for:
        return _bound(relax.TupleGetItem(stands_for[value.tuple_value], value.index), binding.var, stands_for)
    op = read_operator(value) if isinstance(value, ir.Call) else None
    if binding.var not in producers or op is None or op.name not in HALVED:
        return binding
    first, *rest = out_types(value)
    types = [relax.TensorType(first.shape, "float16"), *rest]
    return _bound(emit_operator(op.name, [*op.tensors, *op.constants], types), binding.var, stands_for)


def _bound(value: Any, old: Any, stands_for: dict[Any, Any]) -> Any:
    call = relax.BlockBuilder().normalize(value)
    stands_for[old] = relax.DataflowVar(old.name, call.ty)
    return relax.VarBinding(stands_for[old], call)


class HalveActivations:
    """Runs before DispatchKernels, which finds no product for inputs that are not f16."""

    def __call__(self, mod: Any) -> Any:
        return map_functions(mod, halve_activations)
