"""ShareTensors: what the memory plan puts in the same place, with the same shape and type, is one tensor."""

from typing import Any

import tvm_ffi
from tvm import ir, relax

from kvscape.compiler.passes.operators import map_functions

ALLOC_TENSOR = ir.Op.get("relax.memory.alloc_tensor")


def share_tensors(function: Any) -> Any:
    """Let the first of equal allocations stand for all: two tensors of one storage are never in use at once."""
    seen: dict[Any, list[Any]] = {}
    stands_for: dict[Any, Any] = {}
    blocks = []
    for block in function.body.blocks:
        kept = []
        for binding in block.bindings:
            first = _first(binding, seen)
            if first is None:
                kept.append(binding)
            else:
                stands_for[binding.var] = first.var
        blocks.append(relax.BindingBlock(kept))
    body = relax.SeqExpr(blocks, function.body.body)
    shared = tvm_ffi.structural_map(body, (ir.Var, lambda var: stands_for.get(var, var)), order="post")
    return relax.Function(function.params, shared, function.ret_ty, function.is_pure, function.attrs)


def _first(binding: Any, seen: dict[Any, list[Any]]) -> Any:
    """An earlier binding that allocates the same tensor, if there is one; else ``binding`` is remembered."""
    if not isinstance(binding.value, ir.Call) or binding.value.op != ALLOC_TENSOR:
        return None
    storage, *rest = binding.value.args
    others = seen.setdefault(storage, [])
    for other in others:
        if all(map(tvm_ffi.structural_equal, rest, other.value.args[1:])):
            return other
    others.append(binding)
    return None


class ShareTensors:
    """Runs after LowerAllocTensor: a step has few tensors then, and not some for each layer."""

    def __call__(self, mod: Any) -> Any:
        return map_functions(mod, share_tensors)
