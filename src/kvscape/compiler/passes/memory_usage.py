"""MemoryUsage: read the scratch memory of a step off its memory plan, as a formula in its symbolic sizes."""

from typing import Any

from tvm import ir, relax, tirx
from tvm.sym import Analyzer

from kvscape.analysis.memory import Workspace
from kvscape.config import KEY_GROUP

ALLOC_STORAGE = ir.Op.get("relax.memory.alloc_storage")
_FORWARD = "forward"  # how the names of steps begin
_PARTS = ("n", "s", "r", "t")  # tokens, sequences, rows of logits, tiles
_STEP = KEY_GROUP  # some storages grow with every so many tokens


@relax.expr_functor.visitor
class _Collector(relax.PyExprVisitor):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.total: Any = tirx.IntImm("int64", 0)

    def visit_call_(self, call: Any) -> None:
        if call.op == ALLOC_STORAGE:
            for size in call.args[0].values:
                self.total = self.total + size


def workspace(function: Any) -> Workspace:
    """Sum of all storages the function allocates; they are its scratch memory and its results."""
    collector = _Collector()
    collector.visit_expr(function)
    variables = {v.name: v for v in tirx.analysis.undefined_vars(collector.total)}

    def at(**values: int) -> int:
        analyzer = Analyzer()
        for name, variable in variables.items():
            analyzer.bind(variable, tirx.IntImm("int64", values.get(name, 0)))
        return int(analyzer.simplify(collector.total).value)

    unknown = set(variables) - set(_PARTS)
    assert not unknown, f"scratch memory depends on {unknown}"
    fixed = at()
    tokens, sequences, logit_rows, tiles = ((at(**{name: _STEP}) - fixed) // _STEP for name in _PARTS)
    return Workspace(fixed, tokens, sequences, logit_rows, tiles)


class MemoryUsage:
    """Collects formulas and leaves the module as it is; runs after LowerAllocTensor, when storages are explicit."""

    def __init__(self) -> None:
        self.workspaces: dict[str, Workspace] = {}

    def __call__(self, mod: Any) -> Any:
        for gvar, function in mod.functions_items():
            if isinstance(function, relax.Function) and gvar.name_hint.startswith(_FORWARD):
                self.workspaces[gvar.name_hint] = workspace(function)
        return mod
