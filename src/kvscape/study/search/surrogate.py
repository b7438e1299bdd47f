"""What measured points say of the others: a Gaussian process whose effects mostly add up (Duvenaud et al. 2011)."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvscape.study.search.knobs import Knobs

Array = NDArray[np.float64]

_STEPS = (0.003, 0.03, 0.3, 1.0, 3.0)
_NOISES = (1e-5, 1e-4, 1e-3, 1e-2)
_SWEEPS = 2
# Of a constant and of all knobs together, beside one for each knob alone.
_LEVEL = 10.0


@dataclass(frozen=True)
class Belief:
    """Mean and standard deviation for each point."""

    mean: Array
    deviation: Array


class Surrogate:
    """Beliefs about one objective of all points of a space, given its value at some of them.

    The covariance is a constant, one term for each knob, and their product; how strong each is, and the noise, is what
    makes the measured values most likely, tried value by value.
    """

    def __init__(self, knobs: Knobs, names: Collection[str] | None = None) -> None:
        chosen = [column for column, knob in enumerate(knobs.knobs) if names is None or knob.name in names]
        self._levels = knobs.levels[:, chosen]
        self._likeness = [knobs.knobs[column].likeness() for column in chosen]

    def prior_covariance(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
        """Covariance between points before anything is known: every knob counts the same."""
        return self._covariance(rows, columns, np.asarray([*[1.0] * len(self._likeness), 0.1]))

    def believe(self, measured: NDArray[np.int64], values: Array) -> Belief:
        """Condition on the values of the measured points."""
        center, scale = float(np.mean(values)), float(np.std(values)) or 1.0
        scaled = (values - center) / scale
        strengths, noise = self._likeliest(measured, scaled)
        everything = np.arange(len(self._levels))
        across = self._covariance(everything, measured, strengths)
        factor = np.linalg.cholesky(self._noisy(measured, strengths, noise))
        half = np.linalg.solve(factor, across.T)
        mean = half.T @ np.linalg.solve(factor, scaled)
        variance = _LEVEL + strengths.sum() - np.square(half).sum(axis=0)
        return Belief(center + scale * mean, scale * np.sqrt(np.maximum(variance, 1e-12)))

    def _likeliest(self, measured: NDArray[np.int64], values: Array) -> tuple[Array, float]:
        strengths, noise = np.asarray([*[0.3] * len(self._likeness), 0.03]), 1e-3
        for _ in range(_SWEEPS):
            for number in range(len(strengths)):
                tried = [_with(strengths, number, step) for step in _STEPS]
                strengths = max(tried, key=lambda one: self._likelihood(measured, values, one, noise))
            noise = max(_NOISES, key=lambda one: self._likelihood(measured, values, strengths, one))
        return strengths, noise

    def _likelihood(self, measured: NDArray[np.int64], values: Array, strengths: Array, noise: float) -> float:
        factor = np.linalg.cholesky(self._noisy(measured, strengths, noise))
        fitted = np.linalg.solve(factor, values)
        # A weak preference for weak effects, since a dozen values cannot say much about as many strengths.
        preference = 0.1 * float(np.log(strengths).sum())
        return float(-0.5 * fitted @ fitted - np.log(np.diag(factor)).sum()) - preference

    def _noisy(self, measured: NDArray[np.int64], strengths: Array, noise: float) -> Array:
        return self._covariance(measured, measured, strengths) + noise * np.eye(len(measured))

    def _covariance(self, rows: NDArray[np.int64], columns: NDArray[np.int64], strengths: Array) -> Array:
        total = np.full((len(rows), len(columns)), _LEVEL)
        together = np.full_like(total, strengths[-1])
        for number, likeness in enumerate(self._likeness):
            alike = likeness[np.ix_(self._levels[rows, number], self._levels[columns, number])]
            total += strengths[number] * alike
            together *= alike
        return np.asarray(total + together)


def _with(strengths: Array, number: int, value: float) -> Array:
    changed = strengths.copy()
    changed[number] = value
    return changed
