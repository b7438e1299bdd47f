"""A parameter that follows from others: ``prefill_chunk_size = "context_window_size // 4"``."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvscape.errors import ConfigError, near_match

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max}
_DO = "use names of parameters, whole numbers, + - * //, min() and max()"


@dataclass(frozen=True)
class Tie:
    """An expression over parameters; it is evaluated here and never run as Python."""

    text: str
    tree: ast.expr

    def value(self, parameters: Mapping[str, Any]) -> Any:
        """Raise ConfigError where it cannot be computed, as with a parameter that has no value."""
        try:
            return _value(self.tree, parameters)
        except (TypeError, ZeroDivisionError) as error:
            raise ConfigError(f"the tie {self.text!r}", str(error), _DO) from None


def read_tie(text: Any, known: Mapping[str, Any], where: str) -> Tie:
    """Raise ConfigError for anything but arithmetic on ``known`` parameters."""
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} in {where}", "expected an expression", 'write "context_window_size // 4"')
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ConfigError(f"the tie {text!r} in {where}", "it is no expression", _DO) from None
    _check(tree, text, known, where)
    return Tie(text, tree)


def _check(node: ast.expr, text: str, known: Mapping[str, Any], where: str) -> None:
    match node:
        case ast.Name(id=name):
            if name not in known:
                raise ConfigError(f"unknown key {name!r} in {where}", "", near_match(name, known))
        case ast.Constant(value=int()):
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _check(left, text, known, where)
            _check(right, text, known, where)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
            for argument in arguments:
                _check(argument, text, known, where)
        case _:
            raise ConfigError(f"the tie {text!r} in {where}", "it is more than arithmetic", _DO)


def _value(node: ast.expr, parameters: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return parameters[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, parameters), _value(right, parameters))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, parameters) for argument in arguments))
        case ast.Constant(value=value):
            return value
    raise TypeError(ast.dump(node))  # read_tie lets nothing else pass
