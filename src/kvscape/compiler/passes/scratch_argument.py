"""ScratchArgument: a step's scratch memory and its logits lie in one tensor that the caller gives.

The memory plan's storages follow each other in it. So the caller knows how much there is, keeps it where it is, and
lets all its steps share it, which is what recorded launches need; ``scratch_<step>`` says how many bytes a step takes.
"""

from typing import Any

from tvm import ir, relax, tirx
from tvm.sym import Analyzer

ALLOC_STORAGE = ir.Op.get("relax.memory.alloc_storage")
ALLOC_TENSOR = ir.Op.get("relax.memory.alloc_tensor")
SIZES = ("n", "s", "r", "t")
"""Tokens, sequences, rows of logits, tiles of attention: what a step's memory depends on."""
_STEP = "forward_"
_PREFIX = "scratch_"
_ALIGNMENT_BYTES = 256


def scratch_argument(function: Any) -> tuple[Any, Any]:
    """The function with one parameter more, and the bytes that it must have, in the function's sizes."""
    scratch = relax.Var("scratch", relax.TensorType([tirx.Var("scratch_bytes", "int64")], "uint8"))
    places: dict[Any, Any] = {}
    total: Any = tirx.IntImm("int64", 0)
    blocks = []
    for block in function.body.blocks:
        kept = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, ir.Call) and value.op == ALLOC_STORAGE:
                places[binding.var] = total
                total = total + _aligned(value.args[0].values[0])
            elif isinstance(value, ir.Call) and value.op == ALLOC_TENSOR:
                kept.append(relax.VarBinding(binding.var, _view(scratch, places[value.args[0]], value)))
            else:
                kept.append(binding)
        blocks.append(relax.BindingBlock(kept))
    body = relax.SeqExpr(blocks, function.body.body)
    changed = relax.Function([*function.params, scratch], body, function.ret_ty, function.is_pure, function.attrs)
    return changed, total


def _aligned(nbytes: Any) -> Any:
    return tirx.floordiv(nbytes + (_ALIGNMENT_BYTES - 1), _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _view(scratch: Any, place: Any, alloc: Any) -> Any:
    """What ``alloc`` allocates, in the scratch memory."""
    _, offset, shape, dtype, *_ = alloc.args
    start = Analyzer().simplify(place + getattr(offset, "value", offset))
    return relax.op.memory.view(scratch, shape, dtype, relax.prim_value(start))


def _size_function(total: Any) -> Any:
    """Takes the sizes as one shape and returns the bytes as another."""
    used = {variable.name: variable for variable in tirx.analysis.undefined_vars(total)}
    assert used.keys() <= set(SIZES), f"scratch memory depends on {used.keys()}"
    sizes = [used[name] if name in used else tirx.Var(name, "int64") for name in SIZES]
    builder = relax.BlockBuilder()
    with builder.function("bytes", [relax.Var("sizes", relax.ShapeType(sizes))]):
        builder.emit_func_output(relax.ShapeExpr([Analyzer().simplify(total)]))
    return builder.get()["bytes"]


class ScratchArgument:
    """Runs after MemoryUsage, while storages are explicit."""

    def __call__(self, mod: Any) -> Any:
        functions = dict(mod.functions_items())
        for gvar, function in mod.functions_items():
            if gvar.name_hint.startswith(_STEP):
                functions[gvar], total = scratch_argument(function)
                name = f"{_PREFIX}{gvar.name_hint}"
                functions[ir.GlobalVar(name)] = _size_function(total).with_attr("global_symbol", name)
        return relax.transform.Normalize()(ir.IRModule(functions, attrs=mod.attrs))
