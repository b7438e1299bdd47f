"""Read a model's operator calls out of Relax."""

from collections.abc import Callable
from typing import Any

from tvm import ir, relax, tirx

from kvscape.compiler.kernels.kernel import Operator
from kvscape.models.ops import PREFIX, argument

CALL_DPS_PACKED = ir.Op.get("relax.call_dps_packed")


def read_operator(call: Any) -> Operator | None:
    """Return the operator that ``call`` stands for, or None if it is another call."""
    if call.op != CALL_DPS_PACKED or not str(call.args[0].global_symbol).startswith(PREFIX):
        return None
    tensors, constants = [], []
    for value in call.args[1].fields:
        if isinstance(value, ir.StringImm):
            constants.append(str(value.value))
        elif isinstance(value, tirx.IntImm | tirx.FloatImm):
            constants.append(value.value)
        else:
            tensors.append(value)
    name = str(call.args[0].global_symbol)[len(PREFIX) :]
    return Operator(name, tuple(tensors), tuple(constants), tuple(out_types(call)))


def out_types(call: Any) -> list[Any]:
    """Types of the call's results, as a list also when there is one."""
    ty = call.ty_args[0]
    return list(ty.fields) if isinstance(ty, ir.TupleType) else [ty]


def emit_operator(name: str, arguments: list[Any], types: list[Any]) -> Any:
    """The call of operator ``name``, as models emit it."""
    return relax.call_dps_packed(PREFIX + name, relax.Tuple([argument(value) for value in arguments]), types)


def map_functions(mod: Any, change: Callable[[Any], Any]) -> Any:
    """A module with ``change`` applied to every Relax function; kernels stay as they are."""
    functions = {
        gvar: change(function) if isinstance(function, relax.Function) else function
        for gvar, function in mod.functions_items()
    }
    return relax.transform.Normalize()(ir.IRModule(functions, attrs=mod.attrs))  # new expressions have no type yet
