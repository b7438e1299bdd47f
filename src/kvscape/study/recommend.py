"""Which measured point to ship on a budget, and how."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kvscape.config import DesignPoint
from kvscape.errors import ResultsError
from kvscape.results import Record
from kvscape.study.budget import Budget
from kvscape.study.flags import shipping_commands

# Speeds this close to the fastest differ by noise.
SPEED_NOISE = 0.03


@dataclass(frozen=True)
class Constraint:
    """One limit on one record: ``excess`` 0.2 is 20 % beyond the limit, at most 0 is kept."""

    name: str
    value: float
    limit: float
    excess: float


@dataclass(frozen=True)
class Recommendation:
    """The point to ship, or the nearest miss with the limits it breaks."""

    status: Literal["met", "not_met"]
    point: dict[str, Any]
    metrics: dict[str, float]
    commands: list[str]
    broken: tuple[Constraint, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def recommend(records: Sequence[Record], budget: Budget) -> Recommendation:
    """Among the points that keep every limit: the fastest stream.

    Speeds within ``SPEED_NOISE`` of it count as equal; then the longer context, the larger batch, the lower perplexity
    and the smaller memory win. Where none keeps all limits, the nearest miss is the one whose worst excess is least.
    Raises ResultsError when no record was measured, or none with the perplexity that the budget asks for.
    """
    measured = [record for record in records if record.status == "ok"]
    if not measured:
        raise ResultsError("nothing to recommend", "no point has been measured", "run 'kvscape study' first")
    best = _best_perplexity(measured, budget)
    if budget.max_perplexity_ratio is not None:
        measured = [record for record in measured if "perplexity" in record.metrics]
    judged = [(record, constraints(record, budget, best)) for record in measured]
    affordable = [record for record, limits in judged if all(limit.excess <= 0 for limit in limits)]
    if affordable:
        return _answer("met", _fastest(affordable), ())
    record, limits = min(judged, key=lambda pair: max(limit.excess for limit in pair[1]))
    return _answer("not_met", record, tuple(limit for limit in limits if limit.excess > 0))


def constraints(record: Record, budget: Budget, best_perplexity: float) -> list[Constraint]:
    """Every limit of the budget on one record."""
    metrics, found = record.metrics, []
    if budget.max_total_bytes is not None:
        found.append(_at_most("total_bytes", metrics["total_bytes"], budget.max_total_bytes))
    if budget.min_decode_tokens_per_s is not None:
        speed, least = 1 / metrics["tpot_s"], budget.min_decode_tokens_per_s
        found.append(Constraint("decode_tokens_per_s of a stream", speed, least, least / speed - 1))
    if budget.max_perplexity_ratio is not None:
        limit = budget.max_perplexity_ratio * best_perplexity
        found.append(_at_most("perplexity", metrics["perplexity"], limit))
    return found


def _at_most(name: str, value: float, limit: float) -> Constraint:
    return Constraint(name, value, limit, value / limit - 1 if limit else float("inf"))


def _best_perplexity(records: Sequence[Record], budget: Budget) -> float:
    """The perplexity that a ratio is taken to; not used, and so 0, where the budget has no ratio."""
    if budget.max_perplexity_ratio is None:
        return 0.0
    known = [
        record.metrics["perplexity"]
        for record in records
        if "perplexity" in record.metrics and budget.baseline in (None, record.parameters["quantization"])
    ]
    if not known:
        whose = f"of {budget.baseline}" if budget.baseline else "at all"
        raise ResultsError(
            "no baseline", f"the study has no perplexity {whose}", "add it to the study, or drop the limit"
        )
    return min(known)


def _fastest(records: Sequence[Record]) -> Record:
    quickest = min(record.metrics["tpot_s"] for record in records)
    equals = [record for record in records if record.metrics["tpot_s"] <= quickest * (1 + SPEED_NOISE)]
    return min(equals, key=_preference)


def _preference(record: Record) -> tuple[float, float, float, float]:
    parameters, metrics = record.parameters, record.metrics
    quality = metrics.get("perplexity", 0.0)
    return -parameters["context_window_size"], -parameters["max_batch_size"], quality, metrics["total_bytes"]


def _answer(status: Literal["met", "not_met"], record: Record, broken: tuple[Constraint, ...]) -> Recommendation:
    point = DesignPoint.from_flat(record.parameters)
    reason = ", ".join(f"{c.name} {c.value:.4g} misses {c.limit:.4g} by {c.excess:.1%}" for c in broken)
    return Recommendation(status, record.parameters, record.metrics, shipping_commands(point), broken, reason)
