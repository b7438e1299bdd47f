"""The points that nothing beats in everything."""

from collections.abc import Mapping, Sequence
from typing import Literal

from kvscape.config import asked_of
from kvscape.results import Record

Direction = Literal["min", "max"]
OBJECTIVES: Mapping[str, Direction] = {"total_bytes": "min", "decode_tokens_per_s": "max", "perplexity": "min"}


def pareto_front(records: Sequence[Record], objectives: Mapping[str, Direction] = OBJECTIVES) -> list[Record]:
    """Records that no other is at least as good as in every objective and better in one, in their order.

    Each workload has a front of its own: points that were asked for different work do not compare. A record without one
    of the metrics is left out, but what no record has, as where no perplexity was measured, does not count; of equals
    all stay.
    """
    objectives = {name: way for name, way in objectives.items() if any(name in record.metrics for record in records)}
    if not objectives:
        return []
    costs = [
        (asked_of(record.parameters), record, _costs(record, objectives))
        for record in records
        if set(objectives) <= set(record.metrics)
    ]
    return [
        record
        for asked, record, cost in costs
        if not any(other == asked and _dominates(beside, cost) for other, _, beside in costs)
    ]


def _costs(record: Record, objectives: Mapping[str, Direction]) -> list[float]:
    return [record.metrics[name] * (1 if way == "min" else -1) for name, way in objectives.items()]


def _dominates(a: list[float], b: list[float]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
