"""FuseQuantize: an operator whose result is only rounded to 8 bit writes the codes itself, and no floats."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import ir, relax

from kvscape.compiler.passes.operators import emit_operator, map_functions, out_types, read_operator

FUSED: Mapping[str, str] = {name: f"{name}_quantize" for name in ("add_rms_norm", "swiglu", "geglu")}


def fuse_quantize(function: Any) -> Any:
    """Replace ``quantize(P(...))`` by one operator: its first three results are the codes', then P's others."""
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    values = {binding.var: binding.value for binding in bindings}
    quantizers = _quantizers(values)
    fused = {producer: _fused(values[producer], values[quantizer]) for producer, quantizer in quantizers.items()}
    kept = [new for binding in bindings for new in _rewritten(binding, values, fused, set(quantizers.values()))]
    stands_for = {quantizer: fused[producer].var for producer, quantizer in quantizers.items()}
    blocks = [relax.DataflowBlock(kept)]
    body = tvm_ffi.structural_map(
        relax.SeqExpr(blocks, function.body.body), (ir.Var, lambda var: stands_for.get(var, var)), order="post"
    )
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)


def _quantizers(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The variable of each operator that can be fused, with that of the quantization which alone reads its result."""
    uses: Counter[Any] = Counter()
    for value in values.values():
        tvm_ffi.structural_walk(value, (ir.Var, lambda var: uses.update([var])))
    found = {}
    for var, value in values.items():
        op = read_operator(value) if isinstance(value, ir.Call) else None
        if op is None or op.name != "quantize" or uses[op.tensors[0]] != 1:
            continue
        producer, index = _origin(op.tensors[0], values)
        source = values.get(producer)
        made = read_operator(source) if isinstance(source, ir.Call) else None
        if made is not None and made.name in FUSED and index == 0:
            found[producer] = var
    return found


def _origin(var: Any, values: Mapping[Any, Any]) -> tuple[Any, int]:
    """The variable whose result ``var`` is, and which of its results."""
    value = values.get(var)
    return (value.tuple_value, value.index) if isinstance(value, relax.TupleGetItem) else (var, 0)


def _fused(producer: Any, quantize: Any) -> Any:
    op, rounding = read_operator(producer), read_operator(quantize)
    assert op is not None and rounding is not None
    arguments = [*op.tensors, *op.constants, *rounding.constants]
    types = [*out_types(quantize), *out_types(producer)[1:]]
    call = relax.BlockBuilder().normalize(emit_operator(FUSED[op.name], arguments, types))
    return relax.VarBinding(relax.DataflowVar(FUSED[op.name], call.ty), call)


def _rewritten(binding: Any, values: Mapping[Any, Any], fused: Mapping[Any, Any], quantizers: set[Any]) -> list[Any]:
    """The bindings that take the place of one."""
    if binding.var in fused:
        return [fused[binding.var]]
    producer, index = _origin(binding.var, values)
    if producer in fused:
        # The first result has become three, which the quantization's users read.
        return [relax.VarBinding(binding.var, relax.TupleGetItem(fused[producer].var, index + 2))] if index else []
    return [] if binding.var in quantizers else [binding]


class FuseQuantize:
    """Runs after QuantizeActivations, before DispatchKernels."""

    def __call__(self, mod: Any) -> Any:
        return map_functions(mod, fuse_quantize)
