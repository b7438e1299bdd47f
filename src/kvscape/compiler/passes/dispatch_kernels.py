"""DispatchKernels: each operator of a model becomes a call of the target's kernel."""

from collections.abc import Callable
from typing import Any

from tvm import relax

from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.passes.operators import out_types, read_operator
from kvscape.errors import UnsupportedModelError
from kvscape.models.ops import argument

Dispatch = Callable[[Operator], Kernel | None]
Function = Callable[[Kernel, Operator], Any]


def whole_function(kernel: Kernel, _op: Operator) -> Any:
    """The kernel itself."""
    return kernel.function()


@relax.expr_functor.mutator
class _Mutator(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: Any, dispatch: Dispatch, function: Function) -> None:
        super().__init__(mod)
        self.dispatch = dispatch
        self.function = function
        self.functions: dict[str, Any] = {}
        self.missing: list[str] = []

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        op = read_operator(call)
        if op is None:
            return call
        kernel = self.dispatch(op)
        if kernel is None:
            self.missing.append(op.name)
            return call
        arguments, gvar = relax.Tuple([argument(value) for value in kernel.arguments]), self._gvar(kernel, op)
        types = [*out_types(call), *(relax.TensorType(shape, dtype) for shape, dtype in kernel.scratch)]
        if kernel.inplace:
            aliased = [*kernel.inplace, *[-1] * len(kernel.scratch)]
            called = relax.op.call_tir_inplace(gvar, arguments, aliased, types)
        else:
            called = relax.call_tir(gvar, arguments, types)
        return self._first(called, len(types) - len(kernel.scratch)) if kernel.scratch else called

    def _first(self, called: Any, results: int) -> Any:
        """The kernel's one result, without what it needed besides."""
        assert results == 1
        return relax.TupleGetItem(self.builder_.emit(called), 0)

    def _gvar(self, kernel: Kernel, op: Operator) -> Any:
        """The kernel's function in the module; building one takes much longer than looking it up."""
        if kernel.key not in self.functions:
            self.functions[kernel.key] = self.builder_.add_func(self.function(kernel, op), kernel.key)
        return self.functions[kernel.key]


class DispatchKernels:
    """Runs after the passes that rewrite operators, before those that plan memory.

    ``function`` makes what is called from a kernel and the operator that it was found for.
    Raises UnsupportedModelError for an operator without a kernel, and from here: TVM makes a RuntimeError of whatever
    is raised inside a mutator or a pass of its own.
    """

    def __init__(self, dispatch: Dispatch, function: Function = whole_function) -> None:
        self.dispatch = dispatch
        self.function = function

    def __call__(self, mod: Any) -> Any:
        mutator = _Mutator(mod, self.dispatch, self.function)
        for gvar, function in mod.functions_items():
            if isinstance(function, relax.Function):
                mutator.builder_.update_func(gvar, mutator.visit_expr(function))
        if mutator.missing:
            names = ", ".join(map(repr, sorted(set(mutator.missing))))
            raise UnsupportedModelError(f"no kernel for operator {names}", "the target lacks it", "add one")
        return mutator.builder_.get()
