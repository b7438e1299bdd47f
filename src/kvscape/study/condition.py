"""What must hold of a point's parameters, as a study's file says it."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, near_match
from kvscape.study.axis import axis_values

Test = Callable[[Any], bool]

_LIKE_A_COMPARISON = re.compile(r"\s*[<>=!≤≥≠].*")
_COMPARISON = re.compile(r"(>=|<=|!=|>|<)\s*(-?\d+(?:\.\d+)?)")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Condition:
    """Holds where every named parameter passes its test."""

    tests: Mapping[str, Test]

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        return all(test(parameters[name]) for name, test in self.tests.items())


def read_condition(table: Mapping[str, Any], where: str) -> Condition:
    """``{max_batch_size = [4, 8], sliding_window_size = "> 0"}``; raise ConfigError naming an unknown parameter."""
    known = DesignPoint().flat()
    for name in table:
        if name not in known:
            raise ConfigError(f"unknown key {name!r} in {where}", "", near_match(name, known))
    return Condition(
        {name: _test(value, f"{name} = {value!r} in {where}", known[name]) for name, value in table.items()}
    )


def _test(value: Any, what: str, default: Any) -> Test:
    """A condition that could never hold is a mistake: raise ConfigError naming ``what``."""
    match = _COMPARISON.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        values = axis_values(value)
        if any(isinstance(one, str) and _LIKE_A_COMPARISON.fullmatch(one) for one in values):
            raise ConfigError(what, "it is no comparison with a number", 'write a value, a list, or for example "> 0"')
        if isinstance(default, int | float) and not any(isinstance(one, int | float) for one in values):
            raise ConfigError(what, "the parameter is a number", 'write a number, a list, or for example "> 0"')
        return lambda found: found in values
    if isinstance(default, str):
        raise ConfigError(what, "the parameter is no number", "write one of its values, or a list of them")
    compare, limit = _OPERATORS[match[1]], float(match[2])
    return lambda found: isinstance(found, int | float) and compare(found, limit)
