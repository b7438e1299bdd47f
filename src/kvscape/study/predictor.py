"""Predict every design point of a space from the machine's limits and the points measured so far."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np

from kvscape.analysis.device import Device
from kvscape.analysis.memory import Memory
from kvscape.analysis.point_times import point_times
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError
from kvscape.results import PerplexityRecord, Record
from kvscape.study.feasibility import UNLIMITED_BYTES, infeasible_reason
from kvscape.study.model_facts import ModelFacts
from kvscape.study.quality_model import PredictedQuality, QualityModel
from kvscape.study.speed_model import Case, Speed, SpeedModel
from kvscape.subjects import find_local, is_remote

NO_SPEED = "no speed is predicted of requests that come over time or wait for a place"
FindFacts = Callable[[DesignPoint], ModelFacts | None]
FindDevice = Callable[[str], Device]
"""A device's limits by its name; called for one device again and again."""
Kind = tuple[str, str]
"""A subject, and the device that it runs on."""


@dataclass(frozen=True)
class _Known:
    """A point that can run: its bytes, and its times by the roofline where all requests run together."""

    memory: Memory
    case: Case | None


@dataclass(frozen=True)
class Predictor:
    """What ``fit`` learned: speed for each subject on each device, and quality."""

    device: FindDevice
    facts: FindFacts
    speeds: Mapping[Kind, SpeedModel]
    quality: QualityModel
    measured: Sequence[Record]

    @classmethod
    def fit(
        cls,
        records: Sequence[Record],
        perplexities: Sequence[PerplexityRecord],
        device: FindDevice,
        facts: FindFacts,
    ) -> "Predictor":
        """Learn from the records that were measured on this machine, and whose requests ran together.

        Of a point without ``facts`` nothing is known.
        """
        device = cache(device)
        measured: dict[Kind, list[tuple[Record, Case]]] = {}
        for record in (one for one in records if one.status == "ok"):
            point = DesignPoint.from_flat(record.parameters)
            if _is_own(record, point, device) and (known := _known(point, facts, device)) and known.case:
                measured.setdefault(_kind(point), []).append((record, known.case))
        speeds = {kind: _speed_model(pairs) for kind, pairs in measured.items()}
        used = [record for pairs in measured.values() for record, _ in pairs]
        return cls(device, facts, speeds, QualityModel.of(perplexities), used)

    def predict(
        self, points: Sequence[DesignPoint], available_bytes: Callable[[str], int] = lambda device: UNLIMITED_BYTES
    ) -> list[Record]:
        """Records of status "predicted", or "infeasible" with the reason; their metrics are empty, nothing was run.

        Where requests come over time or wait for a place, memory and quality are predicted and the ``reason`` says so.
        """
        free = cache(available_bytes)
        known = [self._feasible(point, free(point.build.device)) for point in points]
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
        """Of each case, in order; every subject has its own model on each device."""
        found: dict[int, Speed] = {}
        for kind in {_kind(case.times.point) for case in cases}:
            own = [number for number, case in enumerate(cases) if _kind(case.times.point) == kind]
            model = self.speeds.get(kind, SpeedModel((), np.zeros((0, 2))))
            found.update(zip(own, model.predict([cases[number] for number in own]), strict=True))
        return (found[number] for number in range(len(cases)))


def _kind(point: DesignPoint) -> Kind:
    return point.subject, point.build.device


def _is_own(record: Record, point: DesignPoint, device: FindDevice) -> bool:
    """Whether it was measured here; a server's has no machine that counts."""
    if is_remote(point):
        return False
    machine = device(point.build.device).machine
    return bool(record.environment.get("machine", machine) == machine)


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


def _known(point: DesignPoint, find_facts: FindFacts, device: FindDevice) -> _Known | None:
    facts = find_facts(point)
    if facts is None:
        return None
    try:
        fitted = replace(point, engine=point.engine.fitted(facts.model))
    except ConfigError:
        return None
    predict = find_local(point.subject).predict
    memory = predict(facts.model, fitted.engine, facts.weights_bytes, facts.workspaces)
    times = point_times(fitted, facts.model, memory, device(point.build.device)) if point.runs_as_one else None
    return _Known(memory, Case(times) if times else None)
