"""What a study will do, before it does: how many points, which cannot run and why, how long it takes."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kvscape.analysis.roofline import DeviceRates
from kvscape.bench import measure_rates
from kvscape.config import DesignPoint
from kvscape.study.builds import Builds, study_keys
from kvscape.study.estimate import Estimate, Measured
from kvscape.study.feasibility import refusals
from kvscape.study.measuring import waits
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Space
from kvscape.study.store import Store
from kvscape.subjects import is_remote

_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True)
class Group:
    """Points that are left out for the same reason but for its numbers, and the first of them with its own."""

    points: int
    reason: str
    example: dict[str, Any]


@dataclass(frozen=True)
class Outlook:
    """``measured`` points have a record already; ``to_measure`` and ``to_score`` are records to be made, at most.

    How long a server takes is not known: a point of one is estimated as those that run here, or at nothing.
    """

    points: int
    excluded: tuple[Group, ...]
    infeasible: tuple[Group, ...]
    feasible: int
    search: str
    measured: int
    to_measure: int
    to_score: int
    estimated_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def look_ahead(
    space: Space,
    builds: Builds,
    store: Store,
    available_bytes: Callable[[str], int],
    retry: bool = False,
    rates: Callable[[int, None, str], DeviceRates] = measure_rates,
) -> Outlook:
    """Judge every point of a space by its build's facts; nothing of it runs but a probe of the machine."""
    search = space.search
    refused = refusals(space.points, builds, available_bytes)
    feasible = [point for point in space.points if point not in refused]
    keys, statuses, most = study_keys(space, builds), store.statuses(), search.most(len(feasible))
    speed = [(point, keys[point][0]) for point in feasible]
    scored = {key: point for point in feasible if (key := keys[point][1]) is not None}
    to_measure = [point for point, key in speed if waits(statuses.get(key), retry)]
    to_score = [point for key, point in scored.items() if waits(statuses.get(key), retry)]
    counts = min(most, len(to_measure)) + (search.repeats - 1) * most, min(most, len(to_score))
    seconds, local = 0.0, [point for point in feasible if not is_remote(point)]
    if local and any(counts):
        facts = _facts(builds)
        probed = rates(facts(local[0]).weights_bytes, None, local[0].build.device)
        estimate = Estimate(facts, probed, store.durations_s())
        known: list[Measured] = [(point, key) for key, point in scored.items() if not is_remote(point)]
        score = [point for point in to_score if not is_remote(point)]
        here = [(point, key) for point, key in speed if not is_remote(point)]
        seconds = counts[0] * estimate.bench_s([point for point in to_measure if not is_remote(point)] or local, here)
        seconds += len(score[: counts[1]]) * estimate.score_s(score, known, space.quality) if space.quality else 0.0
    return Outlook(
        points=len(space.points) + len(space.excluded),
        excluded=_groups((entry.point, entry.reason) for entry in space.excluded),
        infeasible=_groups((point, why.reason) for point, why in refused.items()),
        feasible=len(feasible),
        search=search.method,
        measured=sum(statuses.get(key) == "ok" for _, key in speed),
        to_measure=counts[0],
        to_score=counts[1],
        estimated_s=min(seconds, 60 * (search.budget_minutes or float("inf"))),
    )


def _facts(builds: Builds) -> Callable[[DesignPoint], ModelFacts]:
    def facts(point: DesignPoint) -> ModelFacts:
        found = builds.facts(point)
        assert found is not None  # a point without is refused
        return found

    return facts


def _groups(entries: Iterable[tuple[DesignPoint, str]]) -> tuple[Group, ...]:
    """The largest group first; what a reason advises to do does not tell groups apart."""
    alike: dict[str, list[tuple[DesignPoint, str]]] = {}
    for point, reason in entries:
        alike.setdefault(_NUMBER.sub("", reason.partition(";")[0]), []).append((point, reason))
    return tuple(_group(members) for members in sorted(alike.values(), key=len, reverse=True))


def _group(members: Sequence[tuple[DesignPoint, str]]) -> Group:
    point, reason = members[0]
    defaults = DesignPoint().flat()
    return Group(len(members), reason, {name: value for name, value in point.flat().items() if value != defaults[name]})
