"""How much a set of points achieves in several objectives at once."""

from collections.abc import Iterable, Mapping, Sequence
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvscape.results import Record
from kvscape.study.pareto import OBJECTIVES, Direction


def costs(metrics: Mapping[str, float], objectives: Mapping[str, Direction] = OBJECTIVES) -> tuple[float, ...]:
    """Logarithms of what shall be small, so that a per cent counts the same in each objective."""
    return tuple(log(metrics[name]) * (1 if way == "min" else -1) for name, way in objectives.items())


def record_costs(
    records: Iterable[Record], objectives: Mapping[str, Direction] = OBJECTIVES
) -> list[tuple[float, ...]]:
    """Costs of the records that were measured in all objectives."""
    measured = (record.metrics for record in records if record.status == "ok")
    return [costs(metrics, objectives) for metrics in measured if set(objectives) <= set(metrics)]


def front(values: ArrayLike) -> NDArray[np.float64]:
    """The rows that no other row is at least as good as, each once; smaller is better."""
    rows = np.unique(np.asarray(values, np.float64), axis=0)
    beaten = [np.any(np.all(rows <= row, axis=1) & np.any(rows < row, axis=1)) for row in rows]
    return rows[~np.asarray(beaten, bool)] if len(rows) else rows


def hypervolume(values: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume of what is worse than one of ``values`` and better than the reference (Zitzler and Thiele 1998)."""
    corner = np.asarray(reference, np.float64)
    rows = np.asarray(values, np.float64).reshape(-1, len(corner))
    return _volume(front(rows[np.all(rows < corner, axis=1)]), corner)


def _volume(rows: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """Slices along the first axis; within a slice all rows that begin before it count."""
    if len(rows) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - rows.min())
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    ends = [*rows[1:, 0], corner[0]]
    slices = (
        (end - rows[number, 0]) * _volume(front(rows[: number + 1, 1:]), corner[1:])
        for number, end in enumerate(ends)
        if end > rows[number, 0]
    )
    return float(sum(slices))
