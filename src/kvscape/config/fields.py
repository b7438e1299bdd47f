"""Frozen dataclasses from plain mappings: unknown keys and wrong types are errors that name what was meant."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from kvscape.errors import ConfigError, near_match

_WORDS = {"NoneType": "none", "dict": "table"}


class Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


D = TypeVar("D", bound=Dataclass)


def from_mapping(cls: type[D], mapping: Mapping[str, Any], where: str = "") -> D:
    """Build ``cls`` from ``mapping``; raise ConfigError for an unknown or missing key or a value of the wrong type."""
    known = {field.name for field in fields(cls)}
    hints = _hints(cls)
    for key, value in mapping.items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}{_in(where)}", "", near_match(key, known))
        if not _fits(value, hints[key]):
            raise ConfigError(f"{key} = {value!r}{_in(where)}", f"expected {_name(hints[key])}", "correct the value")
    for field in fields(cls):
        if field.name not in mapping and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{field.name!r} is missing{_in(where)}", "it has no default", "add it")
    return cls(**mapping)


@cache
def _hints(cls: type[Dataclass]) -> dict[str, Any]:
    """Reading them takes longer than all the rest, and a study makes thousands of points."""
    return get_type_hints(cls)


def _in(where: str) -> str:
    return f" in {where}" if where else ""


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for option in _alternatives(hint):
        kind = get_origin(option) or option
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return True
        if kind is int and isinstance(value, bool):
            continue
        if isinstance(value, kind):
            return True
    return False


def _name(hint: Any) -> str:
    return " or ".join(_WORDS.get(option.__name__, option.__name__) for option in _alternatives(hint))
