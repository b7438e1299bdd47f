"""Stand-ins: a module is rewritten without the bodies of its kernels, whose machine code is made apart from it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import tvm_ffi
from tvm import ir, relax, tirx

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.passes.operators import map_functions

_STANDS_FOR = "kvscape.kernel"
KernelOf = tuple[Kernel, Operator]


class StandIns:
    """``kernels`` has each kernel, and the operator that it was found for, by the name that the module calls it by."""

    def __init__(self) -> None:
        self._made: dict[str, KernelOf] = {}
        self.kernels: dict[str, KernelOf] = {}

    def make(self, kernel: Kernel, op: Operator) -> Any:
        """A function that takes what the kernel takes, and calls something, so that its own calls are not dead code."""
        self._made[kernel.key] = replace(kernel, function=cache(kernel.function)), op
        new = kernel.inplace.count(-1) if kernel.inplace else len(op.results)
        count = len(kernel.arguments) + new + len(kernel.scratch)
        params = [tirx.Var(f"p{index}", "handle") for index in range(count)]
        body = tirx.Evaluate(tirx.call_extern("int32", kernel.key))
        return tirx.PrimFunc(params, body).with_attr(_STANDS_FOR, kernel.key)

    def call_by_name(self, mod: Any) -> Any:
        """A pass: the stand-ins go, and what they stood for is called by its name."""
        names = {gvar.name_hint: key for gvar, function in mod.functions_items() if (key := _kernel_key(function))}
        self.kernels = {name: self._made[key] for name, key in names.items()}
        return map_functions(_without(mod, names), lambda function: _by_name(function, names))


def _kernel_key(function: Any) -> str | None:
    key = function.attrs.get(_STANDS_FOR) if isinstance(function, tirx.PrimFunc) and function.attrs else None
    return None if key is None else str(key)


def _without(mod: Any, names: Mapping[str, str]) -> Any:
    kept = {gvar: function for gvar, function in mod.functions_items() if gvar.name_hint not in names}
    return ir.IRModule(kept, attrs=mod.attrs)


def _by_name(function: Any, names: Mapping[str, str]) -> Any:
    def called(gvar: Any) -> Any:
        return relax.ExternFunc(gvar.name_hint) if gvar.name_hint in names else gvar

    body = tvm_ffi.structural_map(function.body, (ir.GlobalVar, called), order="post")
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
