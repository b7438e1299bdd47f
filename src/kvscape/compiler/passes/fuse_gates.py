"""FuseGates: a product of gates and of what they let through writes what is let through, and nothing else."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import tvm_ffi
from tvm import ir, relax

from kvscape.compiler.passes.operators import emit_operator, map_functions, out_types, read_operator

FUSED: Mapping[str, str] = {"swiglu": "linear_swiglu", "geglu": "linear_geglu"}
_ROWS = 16  # that a kernel takes at once, of the gates and of the others


def fuse_gates(function: Any, dtype: str) -> Any:
    """Replace ``swiglu(linear(x, W))`` by one operator, where nothing else reads the product and the result is a
    ``dtype``."""
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    values = {binding.var: binding.value for binding in bindings}
    products = _products(values, dtype)
    kept = [_rewritten(binding, values, products) for binding in bindings if binding.var not in products.values()]
    body = relax.SeqExpr([relax.DataflowBlock(kept)], function.body.body)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)


def _products(values: Mapping[Any, Any], dtype: str) -> dict[Any, Any]:
    """The variable of each gate that can be fused, with that of its product."""
    uses: Counter[Any] = Counter()
    for value in values.values():
        tvm_ffi.structural_walk(value, (ir.Var, lambda var: uses.update([var])))
    found = {}
    for var, value in values.items():
        op = read_operator(value) if isinstance(value, ir.Call) else None
        if op is None or op.name not in FUSED or op.result_dtype != dtype or uses[op.tensors[0]] != 1:
            continue
        source = values.get(op.tensors[0])
        product = read_operator(source) if isinstance(source, ir.Call) else None
        if product is not None and product.name == "linear" and product.constants[1] % (2 * _ROWS) == 0:
            found[var] = op.tensors[0]
    return found


def _rewritten(binding: Any, values: Mapping[Any, Any], products: Mapping[Any, Any]) -> Any:
    if binding.var not in products:
        return binding
    gate, product = read_operator(binding.value), read_operator(values[products[binding.var]])
    assert gate is not None and product is not None
    arguments = [*product.tensors, *product.constants]
    call = emit_operator(FUSED[gate.name], arguments, out_types(binding.value))
    return relax.VarBinding(binding.var, relax.BlockBuilder().normalize(call))


class FuseGates:
    """Runs after HalveActivations, before DispatchKernels; ``dtype`` is what the kernels write."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype

    def __call__(self, mod: Any) -> Any:
        return map_functions(mod, partial(fuse_gates, dtype=self._dtype))
