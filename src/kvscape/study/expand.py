"""From the tables of a study's file to its design points."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, KvscapeError, near_match
from kvscape.study.axis import axis_values
from kvscape.study.condition import Condition
from kvscape.study.tie import Tie
from kvscape.subjects import find_subject

Parameters = dict[str, Any]
WORKLOAD, SUBJECT = "workload", "subject"
DEFAULTS = DesignPoint().flat()


@dataclass(frozen=True)
class Excluded:
    """A point that is not measured, and why: the study's author ruled it out, or its subject does not have it."""

    point: DesignPoint
    reason: str


@dataclass(frozen=True)
class Grid:
    """A product of axes. An axis ``"a, b"`` sets two parameters together, each value being a list of two."""

    axes: Mapping[str, Sequence[Any]]

    @property
    def subjects(self) -> Sequence[str]:
        return self.axes.get(SUBJECT, ())

    def choices(self) -> Iterator[Parameters]:
        for chosen in product(*self.axes.values()):
            yield {name: one for axis, value in zip(self.axes, chosen, strict=True) for name, one in _set(axis, value)}


def read_grid(table: Mapping[str, Any], workloads: Mapping[str, Parameters]) -> Grid:
    """A grid of all ``workloads``, where it does not choose among them."""
    axes = {name: list(value) if "," in name else axis_values(value) for name, value in table.items()}
    if workloads:
        axes.setdefault(WORKLOAD, list(workloads))
    return Grid(axes)


def _set(axis: str, value: Any) -> list[tuple[str, Any]]:
    names = [name.strip() for name in axis.split(",")]
    if len(names) == 1:
        return [(axis, value)]
    if not isinstance(value, list) or len(value) != len(names):
        why = f"it sets {len(names)} parameters"
        raise ConfigError(f"{value!r} of the axis {axis!r}", why, "give lists of as many values")
    return list(zip(names, value, strict=True))


@dataclass(frozen=True)
class Expansion:
    """What makes points of choices, in this order: base, workload, choice, ``when``, ``ties``, the subject's knobs."""

    base: Parameters
    where: str
    workloads: Mapping[str, Parameters] = field(default_factory=dict)
    when: Mapping[str, Condition] = field(default_factory=dict)
    ties: Mapping[str, Tie] = field(default_factory=dict)

    def points(self, grid: Grid) -> Iterator[DesignPoint | Excluded]:
        """Points of a grid; where it has several subjects, what one of them lacks is excluded.

        Raises ConfigError for a choice that none of its subjects has.
        """
        if len(grid.subjects) < 2:
            yield from (self.point(chosen) for chosen in grid.choices())
            return
        refused: dict[tuple[Any, ...], KvscapeError] = {}
        accepted: set[tuple[Any, ...]] = set()
        for chosen in grid.choices():
            rest = tuple((name, repr(value)) for name, value in chosen.items() if name != SUBJECT)
            parameters = _without_lacked(self._parameters(chosen))
            point = DesignPoint.from_flat(parameters, self.where)
            try:
                find_subject(point.subject).check(point)
            except ConfigError as error:
                refused.setdefault(rest, error)
                yield Excluded(point, str(error))
            else:
                accepted.add(rest)
                yield point
        for rest, refusal in refused.items():
            if rest not in accepted:
                raise refusal

    def point(self, chosen: Parameters) -> DesignPoint:
        """One point; raise ConfigError for what its subject does not have."""
        point = DesignPoint.from_flat(self._parameters(chosen), self.where)
        find_subject(point.subject).check(point)
        return point

    def _parameters(self, chosen: Parameters) -> Parameters:
        rest = dict(chosen)
        workload = self._workload(rest.pop(WORKLOAD)) if WORKLOAD in rest else {}
        parameters = {**self.base, **workload, **rest}
        for name, condition in self.when.items():
            if name in rest and not condition.holds({**DEFAULTS, **parameters}):
                parameters[name] = self.base.get(name, DEFAULTS[name])
        for name, tie in self.ties.items():
            parameters[name] = tie.value({**DEFAULTS, **parameters})
        return parameters

    def _workload(self, name: Any) -> Parameters:
        if name not in self.workloads:
            raise ConfigError(
                f"unknown workload {name!r} in {self.where}",
                "",
                near_match(str(name), self.workloads or ["[workloads]"]),
            )
        return self.workloads[name]


def _without_lacked(parameters: Parameters) -> Parameters:
    """A knob that a subject does not have is left at its default, so that its values become one point."""
    lacked = find_subject(parameters.get(SUBJECT, DEFAULTS[SUBJECT])).lacks
    return {name: value for name, value in parameters.items() if name not in lacked}
