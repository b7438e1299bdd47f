"""Times of design points from the machine's limits, corrected by the points that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvscape.analysis.linear_fit import LinearFit, Prior, fit_times
from kvscape.analysis.point_times import PointTimes
from kvscape.analysis.schedule import TIMES, FloatArray
from kvscape.analysis.step_parts import PARTS

# Which parts of a step each choice may make faster or slower than the machine's limits say.
_FACTORS: Mapping[str, tuple[str, ...]] = {
    "format": ("weights", "passes", "products", "head"),
    "kv_dtype": ("calls", "kv_reading", "attention"),
    "threads": ("weights", "passes", "products", "head"),
}
# The standard deviation of a part's time around what the limits say: of all points, and of one format's beside others.
_OVERALL, _OF_ONE = 1.0, 0.5
_FITTED = tuple(TIMES.index(name) for name in ("prefill_s", "decode_s"))


@dataclass(frozen=True)
class Case:
    """A design point with the parts of its times, and the ``levels`` of the choices that may change them."""

    times: PointTimes

    @cached_property
    def levels(self) -> Mapping[str, str]:
        """The value of each factor."""
        point, build = self.times.point, self.times.point.build
        return {
            "format": f"{build.model} {build.quantization} {build.embedding_quantization} {build.activation}",
            "kv_dtype": point.engine.kv_dtype,
            "threads": str(point.threads),
        }

    def fitted_times(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """The measured times that a fit learns from."""
        prefill, decode = metrics["prefill_tokens_per_s"], metrics["decode_tokens_per_s"]
        return self.times.prompt_tokens / prefill, self.times.plan.decoded / decode


@dataclass(frozen=True)
class Speed:
    """Predicted metrics, and their 95 % intervals."""

    metrics: dict[str, float]
    intervals: dict[str, list[float]]


@dataclass(frozen=True)
class SpeedModel:
    """Cases that were measured, with their times [cases, 2] until the first and after the last prompt was read."""

    cases: Sequence[Case]
    times: FloatArray

    def predict(self, cases: Sequence[Case]) -> list[Speed]:
        """Predict cases, measured or not, as if they were measured once more."""
        columns = _columns([*self.cases, *cases])
        return _speeds(cases, self._fit(columns), columns)

    def held_out(self) -> list[Speed]:
        """Predict each measured case from all the others."""
        columns = _columns(self.cases)
        fit, (terms, times) = self._fit(columns), self._rows(columns)
        number = np.repeat(np.arange(len(self.cases)), len(_FITTED))
        return [
            _speeds([case], fit.without(terms, times, number == own), columns)[0] for own, case in enumerate(self.cases)
        ]

    def _fit(self, columns: "Columns") -> LinearFit:
        return fit_times(*self._rows(columns), _prior(columns))

    def _rows(self, columns: "Columns") -> tuple[FloatArray, FloatArray]:
        terms = _terms(self.cases, columns)[:, _FITTED]
        return terms.reshape(-1, terms.shape[-1]), self.times.reshape(-1)


Columns = list[tuple[str, str, int]]
"""The coefficients beside those of PARTS: factor, level, and the part that they correct."""


def _columns(cases: Sequence[Case]) -> Columns:
    levels = dict.fromkeys((factor, case.levels[factor]) for case in cases for factor in _FACTORS)
    return [(factor, level, PARTS.index(part)) for factor, level in levels for part in _FACTORS[factor]]


def _prior(columns: Columns) -> Prior:
    mean = np.concatenate([np.ones(len(PARTS)), np.zeros(len(columns))])
    return Prior(mean, np.concatenate([np.full(len(PARTS), _OVERALL), np.full(len(columns), _OF_ONE)]))


def _terms(cases: Sequence[Case], columns: Columns) -> FloatArray:
    """[cases, TIMES, coefficients]."""
    if not cases:
        return np.zeros((0, len(TIMES), len(PARTS) + len(columns)))
    parts = np.stack([case.times.parts for case in cases])
    has = {(factor, level): np.array([case.levels[factor] == level for case in cases]) for factor, level, _ in columns}
    corrections = [parts[:, :, part] * has[factor, level][:, None] for factor, level, part in columns]
    return np.concatenate([parts, np.stack(corrections, axis=-1)], axis=-1)


def _speeds(cases: Sequence[Case], fit: LinearFit, columns: Columns) -> list[Speed]:
    terms = _terms(cases, columns)
    flat = terms.reshape(-1, terms.shape[-1])
    times = np.stack([fit.predict(flat), *fit.interval(flat)], axis=-1).reshape(len(cases), len(TIMES), 3)
    return [_speed(*(case.times.metrics(time) for time in three.T)) for case, three in zip(cases, times, strict=True)]


def _speed(metrics: dict[str, float], quick: Mapping[str, float], slow: Mapping[str, float]) -> Speed:
    return Speed(metrics, {name: sorted((quick[name], slow[name])) for name in metrics})
