"""How long records will take, before they are made."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kvscape.analysis.roofline import DeviceRates, predict_speed
from kvscape.config import DesignPoint
from kvscape.quality import quality_point
from kvscape.study.feasibility import predicted_memory
from kvscape.study.model_facts import ModelFacts
from kvscape.study.space import Quality

# Of a process: Python, libraries, weights, the probe of the machine. Of the roofline's speed, what a model reaches.
_START_S = 3.0
_OF_ROOFLINE = 0.5
# Where a text has no limit of windows: characters of a token in English.
_CHARACTERS = 4

Measured = tuple[DesignPoint, str]
"""A point and the key of its record."""


@dataclass(frozen=True)
class Estimate:
    """The roofline's time of a workload, corrected by how long records took, ``durations_s`` by their key."""

    facts: Callable[[DesignPoint], ModelFacts]
    rates: DeviceRates
    durations_s: Mapping[str, float]

    def bench_s(self, wanted: Sequence[DesignPoint], measured: Iterable[Measured]) -> float:
        """Mean time of the wanted points, corrected by those that were measured."""
        return self._mean_s(wanted, measured, self._bench_s)

    def score_s(self, wanted: Sequence[DesignPoint], measured: Iterable[Measured], quality: Quality) -> float:
        """Mean time of the wanted points' perplexities."""
        return self._mean_s(wanted, measured, lambda point: self._score_s(point, quality))

    def _mean_s(
        self, wanted: Sequence[DesignPoint], measured: Iterable[Measured], guess_s: Callable[[DesignPoint], float]
    ) -> float:
        ratios = [self.durations_s[key] / guess_s(point) for point, key in measured if key in self.durations_s]
        return fmean(map(guess_s, wanted)) * (median(ratios) if ratios else 1.0) if wanted else 0.0

    def _bench_s(self, point: DesignPoint) -> float:
        facts = self.facts(point)
        speed = predict_speed(facts.model, predicted_memory(point, facts), point.engine, point.workload, self.rates)
        batches = -(-point.num_requests // point.engine.max_batch_size)
        return _START_S + (point.workload.num_runs + 1) * max(batches * speed.e2e_s / _OF_ROOFLINE, _coming_s(point))

    def _score_s(self, point: DesignPoint, quality: Quality) -> float:
        facts = self.facts(point)
        scored = quality_point(point, quality.settings)
        speed = predict_speed(facts.model, predicted_memory(scored, facts), scored.engine, scored.workload, self.rates)
        tokens = len(quality.text.content) / _CHARACTERS
        if quality.settings.limit is not None:
            tokens = min(tokens, quality.settings.limit * quality.settings.context)
        return _START_S + tokens / speed.prefill_tokens_per_s / _OF_ROOFLINE


def _coming_s(point: DesignPoint) -> float:
    """Until the last request of a run has come."""
    return point.num_requests / rate if (rate := point.workload.request_rate) else 0.0
