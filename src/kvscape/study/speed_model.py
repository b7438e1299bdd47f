"""Times of design points from the machine's limits, corrected by the points that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvscape.analysis.device import Device
from kvscape.analysis.linear_fit import LinearFit, Prior, fit_times
from kvscape.analysis.memory import Memory
from kvscape.analysis.schedule import FLOAT_ROWS, INTEGER_ROWS, TIMES, FloatArray, Schedule, schedule
from kvscape.analysis.step_parts import PARTS, part_seconds
from kvscape.config import DesignPoint, ModelConfig

# Which parts of a step each choice may make faster or slower than the machine's limits say.
_FACTORS: Mapping[str, tuple[str, ...]] = {
    "format": ("weights", "passes", "products", "head"),
    "kv_dtype": ("calls", "kv_reading", "attention"),
    "threads": ("weights", "passes", "products", "head"),
}
# The standard deviation of a part's time around what the limits say: of all points, and of one format's beside others.
_OVERALL, _OF_ONE = 1.0, 0.5
_FITTED = tuple(TIMES.index(name) for name in ("prefill_s", "decode_s"))
_FLOATS = ("q0f16", "q0f32", "f16", "f32", "bf16")


@dataclass(frozen=True)
class Case:
    """A design point with what decides its times; ``parts`` [TIMES, PARTS] are seconds by the roofline."""

    point: DesignPoint
    plan: Schedule
    parts: FloatArray

    @cached_property
    def levels(self) -> Mapping[str, str]:
        """The value of each factor."""
        build = self.point.build
        return {
            "format": f"{build.model} {build.quantization} {build.embedding_quantization} {build.activation}",
            "kv_dtype": self.point.engine.kv_dtype,
            "threads": str(self.point.threads),
        }

    @property
    def prompt_tokens(self) -> int:
        return self.point.engine.max_batch_size * self.point.workload.prompt_tokens

    def rates(self, times: FloatArray) -> dict[str, float]:
        """Metrics of TIMES."""
        found = dict(zip(TIMES, map(float, times), strict=True))
        prefill_s, decode_s = found.pop("prefill_s"), found.pop("decode_s")
        rates = {
            "prefill_tokens_per_s": self.prompt_tokens / prefill_s,
            "decode_tokens_per_s": self.plan.decoded / decode_s,
        }
        return {**rates, **found}

    def fitted_times(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """The measured times that a fit learns from."""
        prefill, decode = metrics["prefill_tokens_per_s"], metrics["decode_tokens_per_s"]
        return self.prompt_tokens / prefill, self.plan.decoded / decode


def make_case(point: DesignPoint, model: ModelConfig, memory: Memory, device: Device) -> Case:
    """Schedule a point whose engine fits the model."""
    build = point.build
    is_float = build.quantization in _FLOATS or build.activation == "float32"
    plan = schedule(model, point.engine, point.workload, FLOAT_ROWS if is_float else INTEGER_ROWS)
    parts = part_seconds(model, memory, device, is_float, point.threads or device.threads, plan.sums)
    return Case(point, plan, parts)


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
    parts = np.stack([case.parts for case in cases])
    has = {(factor, level): np.array([case.levels[factor] == level for case in cases]) for factor, level, _ in columns}
    corrections = [parts[:, :, part] * has[factor, level][:, None] for factor, level, part in columns]
    return np.concatenate([parts, np.stack(corrections, axis=-1)], axis=-1)


def _speeds(cases: Sequence[Case], fit: LinearFit, columns: Columns) -> list[Speed]:
    terms = _terms(cases, columns)
    flat = terms.reshape(-1, terms.shape[-1])
    times = np.stack([fit.predict(flat), *fit.interval(flat)], axis=-1).reshape(len(cases), len(TIMES), 3)
    return [_speed(*(case.rates(time) for time in three.T)) for case, three in zip(cases, times, strict=True)]


def _speed(metrics: dict[str, float], quick: Mapping[str, float], slow: Mapping[str, float]) -> Speed:
    return Speed(metrics, {name: sorted((quick[name], slow[name])) for name in metrics})
