"""Measure next what is expected to add most to the front of memory, decode speed and perplexity."""

from collections.abc import Callable, Mapping, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from kvscape.config import DesignPoint, asked_of
from kvscape.results import Record
from kvscape.study.hypervolume import costs
from kvscape.study.pareto import OBJECTIVES, Direction
from kvscape.study.search.improvement import expected_improvement
from kvscape.study.search.knobs import QUALITY, Knobs
from kvscape.study.search.surrogate import Belief, Surrogate

Predict = Callable[[DesignPoint], Mapping[str, float]]
"""What is predicted of a point before it is measured, by metric; any of the objectives, or none."""

_MARGIN = 0.05


def nothing(point: DesignPoint) -> Mapping[str, float]:
    return {}


class Adaptive:
    """First points that say most about every knob, then those with the largest expected improvement.

    A belief is about the logarithm of an objective over its prediction, where there is one: a good prediction leaves
    little to learn. One that is named in ``exact`` is taken as it is.
    """

    def __init__(
        self,
        points: Sequence[DesignPoint],
        seed: int = 0,
        predict: Predict = nothing,
        exact: Sequence[str] = (),
        objectives: Mapping[str, Direction] = OBJECTIVES,
        first: int | None = None,
    ) -> None:
        self._points, self._objectives, self._exact = points, objectives, exact
        asked = [asked_of(point.flat()) for point in points]
        self._workloads = np.asarray([asked.index(one) for one in asked])
        self._numbers = {point: number for number, point in enumerate(points)}
        knobs = Knobs.of(points)
        self._surrogates = {
            name: Surrogate(knobs, QUALITY if name == "perplexity" else None) for name in self._objectives
        }
        self._whole = Surrogate(knobs)
        self._offsets = {
            name: np.asarray([_offset(predict(p), name, way) for p in points]) for name, way in objectives.items()
        }
        self._first = _enough_to_begin(knobs, len(points)) if first is None else first
        self._open = np.ones(len(points), bool)
        self._asked: list[int] = []
        self._costs: dict[str, dict[int, float]] = {name: {} for name in objectives}
        self._start = int(np.random.default_rng(seed).integers(len(points))) if len(points) else 0

    def ask(self) -> DesignPoint | None:
        if not self._open.any():
            return None
        number = self._informative() if len(self._asked) < self._first or not self._known() else self._promising()
        self._open[number] = False
        self._asked.append(number)
        return self._points[number]

    def tell(self, point: DesignPoint, record: Record) -> None:
        if record.status != "ok":
            return
        number = self._numbers[point]
        for name, way in self._objectives.items():
            if name in record.metrics:
                (cost,) = costs(record.metrics, {name: way})
                self._costs[name][number] = cost

    def _known(self) -> bool:
        return all(len(found) > 1 for found in self._costs.values())

    def _informative(self) -> int:
        """The point that the asked ones say least about."""
        if not self._asked:
            return self._start
        everything, asked = np.arange(len(self._points)), np.asarray(self._asked)
        across = self._whole.prior_covariance(everything, asked)
        among = self._whole.prior_covariance(asked, asked) + 0.01 * np.eye(len(asked))
        explained = np.einsum("na,an->n", across, np.linalg.solve(among, across.T))
        return self._best(-explained)

    def _promising(self) -> int:
        """Each workload has a front of its own, and what a point adds is what it adds to that one."""
        beliefs = [self._belief(name) for name in self._objectives]
        complete = sorted(set.intersection(*(set(found) for found in self._costs.values())))
        measured = np.asarray([[found[number] for found in self._costs.values()] for number in complete])
        measured = measured.reshape(len(complete), len(beliefs))
        worth = np.zeros(len(self._points))
        for workload in np.unique(self._workloads):
            own = self._workloads == workload
            some = [Belief(belief.mean[own], belief.deviation[own]) for belief in beliefs]
            known = measured[own[complete]]
            worth[own] = expected_improvement(some, known, self._reference(some))
        return self._best(worth)

    def _belief(self, name: str) -> Belief:
        offsets, found = self._offsets[name], self._costs[name]
        if name in self._exact:
            return Belief(offsets, np.full(len(offsets), 1e-6))
        measured = np.asarray(sorted(found))
        values = np.asarray([found[number] for number in measured]) - offsets[measured]
        belief = self._surrogates[name].believe(measured, values)
        return Belief(belief.mean + offsets, belief.deviation)

    def _reference(self, beliefs: Sequence[Belief]) -> NDArray[np.float64]:
        """A little worse than the worst that is measured or expected."""
        return np.asarray([belief.mean.max() + _MARGIN * (np.ptp(belief.mean) + 1e-9) for belief in beliefs])

    def _best(self, worth: NDArray[np.float64]) -> int:
        return int(np.argmax(np.where(self._open, worth, -np.inf)))


def _offset(predicted: Mapping[str, float], name: str, way: Direction) -> float:
    return log(predicted[name]) * (1 if way == "min" else -1) if name in predicted else 0.0


def _enough_to_begin(knobs: Knobs, points: int) -> int:
    """One for each effect of a value and one for the level, but a dozen at most: the rest is learned on the way."""
    return min(1 + sum(len(knob.values) - 1 for knob in knobs.knobs), 12, points)
