"""What else there is beside the recommended point, and what each limit of the budget costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvscape.study.candidate import Candidate
from kvscape.study.constraint import Constraint
from kvscape.study.objective import METRICS, NOISE, cost

# Less than this is no reason to choose another point.
_WORTH = 0.02
_SHOWN = ("total_bytes", "tpot_s", "prefill_tokens_per_s", "ttft_s", "perplexity")


@dataclass(frozen=True)
class Alternative:
    """A point that keeps every limit and is better in ``direction``: how it ``differs``, and its ``changes``.

    A change of -0.2 in a metric is 20 % less than the recommended point has.
    """

    direction: str
    differs: Mapping[str, Any]
    metrics: Mapping[str, float]
    changes: Mapping[str, float]
    is_measured: bool


@dataclass(frozen=True)
class Relaxation:
    """One limit set to what ``needed`` says: ``gains`` by metric is [before, after], ``differs`` how the point does.

    Where no point keeps all limits there are no gains: this one alone would have to be changed.
    """

    name: str
    needed: str
    excess: float
    differs: Mapping[str, Any]
    gains: Mapping[str, tuple[float, float]]


Judged = Sequence[tuple[Candidate, Sequence[Constraint]]]


def runners_up(chosen: Candidate, affordable: Sequence[Candidate], objective: str) -> tuple[Alternative, ...]:
    """The best affordable point in each other direction, where it is better there, and the next in the objective."""
    others = [candidate for candidate in affordable if candidate is not chosen]
    found = []
    for direction in METRICS:
        if not others or cost(best := min(others, key=lambda one: cost(one, direction)), direction) == float("inf"):
            continue
        if direction == objective or cost(best, direction) < cost(chosen, direction) * (1 - _WORTH):
            found.append(_alternative(direction, best, chosen))
    return tuple(sorted(found, key=lambda one: one.direction != objective))


def relaxations(chosen: Candidate | None, judged: Judged, objective: str) -> tuple[Relaxation, ...]:
    """For each limit that alone keeps points out: the least change of it that brings a gain.

    The gain is in the objective, over the ``chosen`` point, or in memory, over the smallest that keeps all limits.
    Without a chosen point it is that there is one.
    """
    references = _references(chosen, judged, objective)
    found: dict[str, Relaxation] = {}
    for pairs in _kept_out(judged).values():
        for wanted, reference in references.items():
            relaxation = _least(reference, pairs, wanted) if reference else _nearest(pairs)
            if relaxation is not None:
                found.setdefault(relaxation.needed, relaxation)
    return tuple(found.values())


def _references(chosen: Candidate | None, judged: Judged, objective: str) -> dict[str, Candidate | None]:
    if chosen is None:
        return {objective: None}
    affordable = [candidate for candidate, limits in judged if all(limit.is_kept for limit in limits)]
    return {"memory": min(affordable, key=lambda one: cost(one, "memory")), objective: chosen}


def _kept_out(judged: Judged) -> dict[str, list[tuple[Candidate, Constraint]]]:
    """Points that one limit alone keeps out, by its name."""
    found: dict[str, list[tuple[Candidate, Constraint]]] = {}
    for candidate, limits in judged:
        broken = [limit for limit in limits if not limit.is_kept]
        if len(broken) == 1 and broken[0].excess != float("inf"):
            found.setdefault(broken[0].name, []).append((candidate, broken[0]))
    return found


def _nearest(pairs: Sequence[tuple[Candidate, Constraint]]) -> Relaxation:
    candidate, limit = min(pairs, key=lambda pair: pair[1].excess)
    return Relaxation(limit.name, limit.needed, limit.excess, dict(candidate.parameters), {})


def _least(reference: Candidate, pairs: Sequence[tuple[Candidate, Constraint]], wanted: str) -> Relaxation | None:
    """The smallest excess that gains at least ``_WORTH``; of equals the largest gain."""
    if METRICS[wanted] not in reference.metrics:
        return None
    most = cost(reference, wanted) * (1 - max(_WORTH, NOISE[wanted]))
    gaining = [(candidate, limit) for candidate, limit in pairs if cost(candidate, wanted) < most]
    if not gaining:
        return None
    candidate, limit = min(gaining, key=lambda pair: (pair[1].excess, cost(pair[0], wanted)))
    name = METRICS[wanted]
    gains = {name: (reference.metrics[name], candidate.metrics[name])}
    return Relaxation(limit.name, limit.needed, limit.excess, _differs(candidate, reference), gains)


def _alternative(direction: str, candidate: Candidate, chosen: Candidate) -> Alternative:
    both = [name for name in _SHOWN if name in candidate.metrics and name in chosen.metrics]
    changes = {name: candidate.metrics[name] / chosen.metrics[name] - 1 for name in both}
    metrics = {name: candidate.metrics[name] for name in both}
    return Alternative(direction, _differs(candidate, chosen), metrics, changes, candidate.is_measured)


def _differs(candidate: Candidate, chosen: Candidate) -> dict[str, Any]:
    return {name: value for name, value in candidate.parameters.items() if value != chosen.parameters[name]}
