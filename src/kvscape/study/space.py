"""The design space of a study, read from TOML or from flags."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kvscape.config import DesignPoint
from kvscape.config.fields import from_mapping
from kvscape.errors import ConfigError, near_match
from kvscape.hub import Progress, silent
from kvscape.quality import Settings, Text, TextChoice
from kvscape.quantization.scheme import Scheme
from kvscape.study.axis import parse_axis
from kvscape.study.condition import Condition, read_condition
from kvscape.study.expand import DEFAULTS, WORKLOAD, Excluded, Expansion, Parameters, read_grid
from kvscape.study.search.choose import SearchSettings
from kvscape.study.tie import read_tie

FLAGS = Path("the command line")


_REFERENCE = "reference"


@dataclass(frozen=True)
class Quality:
    """The perplexity that is measured once for all points of equal quality.

    ``reference`` is a quantization of kvscape's: the divergence from it, run beside each point, is measured too.
    """

    settings: Settings
    text: Text
    choice: TextChoice = field(default_factory=TextChoice)
    reference: str | None = None

    def reference_of(self, point: DesignPoint) -> str | None:
        """What a point is compared with; other subjects have other quantizations."""
        return self.reference if point.subject == DesignPoint().subject else None


@dataclass(frozen=True)
class Space:
    """Points in the order of the file, each once; ``timeout_s`` ends a point that hangs."""

    name: str
    points: tuple[DesignPoint, ...]
    excluded: tuple[Excluded, ...] = ()
    quality: Quality | None = None
    timeout_s: float = 600.0
    workloads: Mapping[str, Parameters] = field(default_factory=dict)
    search: SearchSettings = field(default_factory=SearchSettings)

    @classmethod
    def read(cls, path: Path | str) -> "Space":
        """The space of a TOML file."""
        return read_space(Path(path))

    @classmethod
    def of(cls, **tables: Any) -> "Space":
        """The space of a file's tables: ``Space.of(name="kv", axes={"kv_dtype": ["f16", "int8"]})``."""
        return parse_space(tables, Path("Space.of"))


@dataclass(frozen=True)
class SpaceFile:
    """The tables of a study's file. ``axes`` and each ``grid`` are products; ``points`` stand for themselves."""

    name: str = ""
    timeout_s: float = 600.0
    base: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, Any] = field(default_factory=dict)
    grid: list[Any] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    workloads: dict[str, Any] = field(default_factory=dict)
    when: dict[str, Any] = field(default_factory=dict)
    tie: dict[str, Any] = field(default_factory=dict)
    exclude: list[Any] = field(default_factory=list)
    ppl: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)


def read_space(path: Path, progress: Progress = silent) -> Space:
    """Read a study's file, and download its text; raise ConfigError naming the near match of an unknown key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "give a study's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML", str(error), "correct the file") from None
    return parse_space(raw, path, progress)


def space_of_axes(
    axes: Sequence[str], name: str = "study", ppl: Mapping[str, Any] | None = None, progress: Progress = silent
) -> Space:
    """The product of ``--axis name=values`` flags, with the perplexity that a table ``ppl`` asks for.

    Raises ConfigError for an axis that is given twice.
    """
    read = [parse_axis(text) for text in axes]
    for axis, _ in read:
        if sum(axis == other for other, _ in read) > 1:
            raise ConfigError(f"--axis {axis}", "it is given twice", "give its values in one flag")
    tables = {"name": name, "axes": dict(read)}
    return parse_space(tables if ppl is None else {**tables, "ppl": ppl}, FLAGS, progress)


def parse_space(raw: Mapping[str, Any], path: Path, progress: Progress = silent) -> Space:
    """Build a space from a file's content; ``path`` names it and is where its text file is looked for."""
    file = from_mapping(SpaceFile, raw, path.name)
    expansion = _expansion(file, path.name)
    found = dict.fromkeys(_every(file, expansion, path.name))
    if not 0 < file.timeout_s < math.inf:
        raise ConfigError(f"timeout_s = {file.timeout_s}", "a point would have no time", "give seconds, such as 600")
    points = [entry for entry in found if isinstance(entry, DesignPoint)]
    if not points:
        raise ConfigError(
            f"{path.name} has no points", "there is nothing to measure", "add [axes], [[grid]] or [[points]]"
        )
    rules = [_rule(entry, f"[[exclude]] of {path.name}") for entry in file.exclude]
    ruled_out = {point: reason for point in points if (reason := _ruled_out(point, rules))}
    return Space(
        name=check_name(file.name or path.stem),
        points=tuple(point for point in points if point not in ruled_out),
        excluded=(
            *(entry for entry in found if isinstance(entry, Excluded)),
            *(Excluded(point, reason) for point, reason in ruled_out.items()),
        ),
        quality=_quality(file.ppl, path, progress) if "ppl" in raw else None,
        timeout_s=file.timeout_s,
        workloads=expansion.workloads,
        search=from_mapping(SearchSettings, file.search, f"[search] of {path.name}"),
    )


def check_name(name: str) -> str:
    """Raise ConfigError for a study's name that cannot be part of a file's."""
    if not name.strip() or any(sign in name for sign in "/\\\0\n"):
        why = "it becomes part of a file's name"
        raise ConfigError(f"the study's name {name!r}", why, "use letters, digits, '-' and '_'")
    return name


def _expansion(file: SpaceFile, name: str) -> Expansion:
    workloads = {key: _table(entry, f"[workloads] of {name}") for key, entry in file.workloads.items()}
    when = {key: _table(entry, f"[when] of {name}") for key, entry in file.when.items()}
    for key in (*when, *file.tie):
        if key not in DEFAULTS:
            raise ConfigError(f"unknown key {key!r} in {name}", "", near_match(key, DEFAULTS))
    return Expansion(
        base=file.base,
        where=name,
        workloads=workloads,
        when={key: read_condition(entry, f"[when] of {name}") for key, entry in when.items()},
        ties={key: read_tie(text, DEFAULTS, f"[tie] of {name}") for key, text in file.tie.items()},
    )


def _every(file: SpaceFile, expansion: Expansion, name: str) -> list[DesignPoint | Excluded]:
    grids = [_table(entry, f"[[grid]] of {name}") for entry in (*([file.axes] if file.axes else []), *file.grid)]
    if not grids and not file.points and file.workloads:
        grids = [{WORKLOAD: list(file.workloads)}]
    listed = [_table(entry, f"[[points]] of {name}") for entry in file.points]
    return [
        *(entry for grid in grids for entry in expansion.points(read_grid(grid, expansion.workloads))),
        *(expansion.point(entry) for entry in listed),
    ]


def _table(entry: Any, where: str) -> Parameters:
    if not isinstance(entry, dict):
        raise ConfigError(f"{entry!r} in {where}", "expected a table", "write name = value")
    return entry


@dataclass(frozen=True)
class Rule:
    """Rules out the points of a condition."""

    condition: Condition
    reason: str


def _rule(entry: Any, where: str) -> Rule:
    table = dict(_table(entry, where))
    reason = table.pop("reason", None)
    if not isinstance(reason, str) or not table:
        raise ConfigError(f"an exclusion in {where}", "it needs conditions and a reason", 'add reason = "..."')
    return Rule(read_condition(table, where), reason)


def _ruled_out(point: DesignPoint, rules: Sequence[Rule]) -> str:
    if not rules:
        return ""
    parameters = point.flat()
    return next((rule.reason for rule in rules if rule.condition.holds(parameters)), "")


def _quality(table: Parameters, path: Path, progress: Progress) -> Quality:
    where = f"[ppl] of {path.name}"
    of_text, of_settings = ({entry.name for entry in fields(kind)} for kind in (TextChoice, Settings))
    for key in table:
        if key not in (known := of_text | of_settings | {_REFERENCE}):
            raise ConfigError(f"unknown key {key!r} in {where}", "", near_match(key, known))
    settings = from_mapping(Settings, {key: value for key, value in table.items() if key in of_settings}, where)
    chosen = {key: value for key, value in table.items() if key in of_text}
    if "text" in chosen:
        chosen["text"] = path.parent / str(chosen["text"])
    choice = from_mapping(TextChoice, chosen, where)
    reference = table.get(_REFERENCE)
    if reference is not None:
        Scheme(str(reference))
    return Quality(settings, choice.read(settings.protocol, progress), choice, reference)
