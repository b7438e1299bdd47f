"""The design space of a study, read from TOML."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from kvscape.config import DesignPoint
from kvscape.config.fields import from_mapping
from kvscape.errors import ConfigError, near_match
from kvscape.quality import Settings, Text, built_in_text, text_from_file
from kvscape.subjects import find_subject

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Excluded:
    """A point that the study's author ruled out, and why."""

    point: DesignPoint
    reason: str


@dataclass(frozen=True)
class Quality:
    """The perplexity that is measured once for all points of equal quality."""

    settings: Settings
    text: Text
    path: Path | None = None


@dataclass(frozen=True)
class Space:
    """Points in the order of the file, each once; ``timeout_s`` ends a point that hangs."""

    name: str
    points: tuple[DesignPoint, ...]
    excluded: tuple[Excluded, ...] = ()
    quality: Quality | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True)
class SpaceFile:
    """The tables of a study's file. ``axes`` and each ``grid`` are products; ``points`` stand for themselves."""

    name: str = ""
    timeout_s: float = 600.0
    base: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, Any] = field(default_factory=dict)
    grid: list[Any] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    exclude: list[Any] = field(default_factory=list)
    ppl: dict[str, Any] = field(default_factory=dict)


def read_space(path: Path) -> Space:
    """Read a study's file; raise ConfigError naming the near match of an unknown key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "give a study's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML", str(error), "correct the file") from None
    return parse_space(raw, path)


def parse_space(raw: Mapping[str, Any], path: Path) -> Space:
    """Build a space from a file's content; ``path`` names it and is where its text file is looked for."""
    file = from_mapping(SpaceFile, raw, path.name)
    every = [*_products(file, path.name), *(_table(entry, f"[[points]] of {path.name}") for entry in file.points)]
    points = dict.fromkeys(_point({**file.base, **chosen}, path.name) for chosen in every)
    if not points:
        raise ConfigError(
            f"{path.name} has no points", "there is nothing to measure", "add [axes], [[grid]] or [[points]]"
        )
    rules = [_rule(entry, f"[[exclude]] of {path.name}") for entry in file.exclude]
    excluded = {point: reason for point in points if (reason := _ruled_out(point, rules))}
    return Space(
        name=file.name or path.stem,
        points=tuple(point for point in points if point not in excluded),
        excluded=tuple(Excluded(point, reason) for point, reason in excluded.items()),
        quality=_quality(file.ppl, path) if "ppl" in raw else None,
        timeout_s=file.timeout_s,
    )


def _products(file: SpaceFile, name: str) -> Iterator[Parameters]:
    grids = [*([file.axes] if file.axes else []), *file.grid]
    for grid in grids:
        axes = {key: _values(value) for key, value in _table(grid, f"[[grid]] of {name}").items()}
        for chosen in product(*axes.values()):
            yield dict(zip(axes, chosen, strict=True))


def _values(value: Any) -> Sequence[Any]:
    """An axis: a list, or one value alone."""
    if value == []:
        raise ConfigError("an axis has no values", "its product with the others is empty", "give it at least one value")
    return value if isinstance(value, list) else [value]


def _table(entry: Any, where: str) -> Parameters:
    if not isinstance(entry, dict):
        raise ConfigError(f"{entry!r} in {where}", "expected a table", "write name = value")
    return entry


def _point(parameters: Parameters, where: str) -> DesignPoint:
    point = DesignPoint.from_flat(parameters, where)
    find_subject(point.subject).check(point)
    return point


@dataclass(frozen=True)
class Rule:
    """Rules out the points whose every named parameter has one of the values."""

    conditions: Mapping[str, Sequence[Any]]
    reason: str

    def matches(self, parameters: Parameters) -> bool:
        return all(parameters[name] in values for name, values in self.conditions.items())


def _rule(entry: Any, where: str) -> Rule:
    table = dict(_table(entry, where))
    reason = table.pop("reason", None)
    if not isinstance(reason, str) or not table:
        raise ConfigError(f"an exclusion in {where}", "it needs conditions and a reason", 'add reason = "..."')
    known = DesignPoint().flat()
    for name in table:
        if name not in known:
            raise ConfigError(f"unknown key {name!r} in {where}", "", near_match(name, known))
    return Rule({name: _values(value) for name, value in table.items()}, reason)


def _ruled_out(point: DesignPoint, rules: Iterable[Rule]) -> str:
    parameters = point.flat()
    return next((rule.reason for rule in rules if rule.matches(parameters)), "")


def _quality(table: Parameters, path: Path) -> Quality:
    rest = dict(table)
    name = rest.pop("text", None)
    where = f"[ppl] of {path.name}"
    known = {"protocol", "context", "limit", "text"}
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {key!r} in {where}", "", near_match(key, known))
    settings = from_mapping(Settings, rest, where)
    if name is None:
        return Quality(settings, built_in_text())
    file = path.parent / str(name)
    return Quality(settings, text_from_file(file), file)
