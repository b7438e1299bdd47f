"""Predict every design point of a space from the machine's limits and the points measured so far."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.point_times import point_times
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError
from kvscape.results import PerplexityRecord, Record
from kvscape.study.feasibility import infeasible_reason
from kvscape.study.model_facts import ModelFacts
from kvscape.study.quality_model import PredictedQuality, QualityModel
from kvscape.study.speed_model import Case, Speed, SpeedModel
from kvscape.subjects import find_local, is_remote

UNLIMITED_BYTES = 1 << 62
NO_SPEED = "no speed is predicted of requests that come over time or wait for a place"
FindFacts = Callable[[DesignPoint], ModelFacts | None]


@dataclass(frozen=True)
class _Known:
    """A point that can run: its bytes, and its times by the roofline where all requests run together."""

    memory: Memory
    case: Case | None


@dataclass(frozen=True)
class Predictor:
    """What ``fit`` learned: speed for each subject, and quality."""

    device: Device
    facts: FindFacts
    speeds: Mapping[str, SpeedModel]
    quality: QualityModel
    measured: Sequence[Record]

    @classmethod
    def fit(
        cls,
        records: Sequence[Record],
        perplexities: Sequence[PerplexityRecord],
        device: Device,
        facts: FindFacts,
    ) -> "Predictor":
        """Learn from the records that were measured on this device, and whose requests ran together.

        Of a point without ``facts`` nothing is known.
        """
        measured: dict[str, list[tuple[Record, Case]]] = {}
        for record in records:
            if record.status == "ok" and record.environment.get("machine", device.machine) == device.machine:
                point = DesignPoint.from_flat(record.parameters)
                if (known := _known(point, facts, device)) and known.case:
                    measured.setdefault(point.subject, []).append((record, known.case))
        speeds = {subject: _speed_model(pairs) for subject, pairs in measured.items()}
        used = [record for pairs in measured.values() for record, _ in pairs]
        return cls(device, facts, speeds, QualityModel.of(perplexities), used)

    def predict(self, points: Sequence[DesignPoint], available_bytes: int = UNLIMITED_BYTES) -> list[Record]:
        """Records of status "predicted", or "infeasible" with the reason; their metrics are empty, nothing was run.

        Where requests come over time or wait for a place, memory and quality are predicted and the ``reason`` says so.
        """
        known = [self._feasible(point, available_bytes) for point in points]
        speeds = self._speeds([one.case for one in known if isinstance(one, _Known) and one.case])
        return [
            _record(point, one.memory, next(speeds) if one.case else None, quality)
            if isinstance(one, _Known)
            else Record(point.flat(), {}, {}, {}, {}, status="infeasible", reason=one)
            for point, one, quality in zip(points, known, self.quality.predict(points), strict=True)
        ]

    def with_predictions(self, records: Sequence[Record]) -> list[Record]:
        """Put beside each measured point what all other measured points say of it; other records stay as they are."""
        held_out = (speed for model in self.speeds.values() for speed in model.held_out())
        beside = {id(record): speed for record, speed in zip(self.measured, held_out, strict=True)}
        return [self._beside(record, beside[id(record)]) if id(record) in beside else record for record in records]

    def _beside(self, record: Record, speed: Speed) -> Record:
        quality = self.quality.held_out(DesignPoint.from_flat(record.parameters))
        predicted = {**record.predicted, **speed.metrics}
        return _with_quality(replace(record, predicted=predicted, predicted_intervals=speed.intervals), quality)

    def _feasible(self, point: DesignPoint, available_bytes: int) -> _Known | str:
        facts = self.facts(point)
        if facts is None:
            return "nothing is predicted of a server" if is_remote(point) else "its build failed"
        reason = infeasible_reason(point, facts, available_bytes)
        return reason or _known(point, self.facts, self.device) or "the model was not made for it"

    def _speeds(self, cases: Sequence[Case]) -> Iterator[Speed]:
        """Of each case, in order; every subject has its own model."""
        found: dict[int, Speed] = {}
        for subject in {case.times.point.subject for case in cases}:
            own = [number for number, case in enumerate(cases) if case.times.point.subject == subject]
            model = self.speeds.get(subject, SpeedModel((), np.zeros((0, 2))))
            found.update(zip(own, model.predict([cases[number] for number in own]), strict=True))
        return (found[number] for number in range(len(cases)))


def _record(point: DesignPoint, memory: Memory, speed: Speed | None, quality: PredictedQuality | None) -> Record:
    told, reason = (speed, "") if speed else (Speed({}, {}), NO_SPEED)
    predicted = {**asdict(memory), "total_bytes": memory.total_bytes, **told.metrics}
    record = Record(point.flat(), {}, predicted, {}, {}, "predicted", reason=reason, predicted_intervals=told.intervals)
    return _with_quality(record, quality)


def _with_quality(record: Record, quality: PredictedQuality | None) -> Record:
    if quality is None:
        return record
    predicted = {**record.predicted, "perplexity": quality.perplexity}
    bounds = {} if quality.interval is None else {"perplexity": list(quality.interval)}
    return replace(record, predicted=predicted, predicted_intervals={**record.predicted_intervals, **bounds})


def _speed_model(pairs: Sequence[tuple[Record, Case]]) -> SpeedModel:
    times = np.array([case.fitted_times(record.metrics) for record, case in pairs])
    return SpeedModel([case for _, case in pairs], times)


def _known(point: DesignPoint, find_facts: FindFacts, device: Device) -> _Known | None:
    facts = find_facts(point)
    if facts is None:
        return None
    try:
        fitted = replace(point, engine=point.engine.fitted(facts.model))
    except ConfigError:
        return None
    predict = find_local(point.subject).predict
    memory = predict(facts.model, fitted.engine, facts.weights_bytes, facts.workspaces)
    times = point_times(fitted, facts.model, memory, device) if point.runs_as_one else None
    return _Known(memory, Case(times) if times else None)
