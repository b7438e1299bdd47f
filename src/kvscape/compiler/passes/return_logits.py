"""ReturnLogits: a step returns its logits alone, and no tuple of them and of the pools that were written in place."""

from typing import Any

from tvm import ir, relax

_STEP = "forward_"


def return_logits(function: Any) -> Any:
    """Let a function return the first field of its result."""
    values = {binding.var: binding.value for block in function.body.blocks for binding in block.bindings}
    logits = values.get(function.body.body, function.body.body).fields[0]
    body = relax.SeqExpr(function.body.blocks, logits)
    return relax.Function(function.params, body, logits.ty, function.is_pure, function.attrs)


class ReturnLogits:
    """Runs after CallTIRRewrite: until then, only a result that is used says that a pool is written."""

    def __call__(self, mod: Any) -> Any:
        functions = {
            gvar: return_logits(function) if gvar.name_hint.startswith(_STEP) else function
            for gvar, function in mod.functions_items()
        }
        return relax.transform.Normalize()(ir.IRModule(functions, attrs=mod.attrs))
