"""Predictions of all points of a study, in a file beside its store: never among what was measured."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.config import DesignPoint
from kvscape.errors import ResultsError
from kvscape.files import write_text
from kvscape.results import PerplexityRecord, Record
from kvscape.study.predictor import FindDevice, FindFacts, Predictor


def predict_points(
    points: Sequence[DesignPoint],
    records: Sequence[Record],
    perplexities: Sequence[PerplexityRecord],
    device: FindDevice,
    facts: FindFacts,
) -> list[Record]:
    """What is predicted of every point: of a measured one from all the others, of the rest from all that are measured.

    A point that cannot run here has its reason.
    """
    predictor = Predictor.fit(records, perplexities, device, facts)
    beside = {_key(record.parameters): record for record in predictor.with_predictions(records) if _is_told(record)}
    rest = [point for point in points if _key(point.flat()) not in beside]
    return [*map(_only_predicted, beside.values()), *predictor.predict(rest, available_memory_bytes)]


def write_predictions(folder: Path, study: str, predictions: Iterable[Record]) -> Path:
    """Write ``predictions_<study>.jsonl``; return its path."""
    path = _path(folder, study)
    write_text(path, "".join(json.dumps(record.to_json()) + "\n" for record in predictions))
    return path


def read_predictions(folder: Path, study: str) -> list[Record]:
    """The predictions that were made last; none where there is no file. Raises ResultsError for a damaged one."""
    path = _path(folder, study)
    if not path.is_file():
        return []
    try:
        return [Record.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ResultsError(f"cannot read {path}", str(error), "delete it, or run 'kvscape predict' again") from None


def joined(records: Sequence[Record], predictions: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records with their predictions beside them, and the predictions of points that have no record."""
    by_key = {_key(prediction.parameters): prediction for prediction in predictions}
    beside = [_joined(record, by_key.get(_key(record.parameters))) for record in records]
    known = {_key(record.parameters) for record in records}
    rest = [prediction for key, prediction in by_key.items() if key not in known]
    return beside, [prediction for prediction in rest if prediction.status == "predicted"]


def _joined(record: Record, prediction: Record | None) -> Record:
    if prediction is None or record.status != "ok":
        return record
    predicted = {**record.predicted, **prediction.predicted}
    return replace(record, predicted=predicted, predicted_intervals=prediction.predicted_intervals)


def _is_told(record: Record) -> bool:
    return record.status == "ok" and bool(record.predicted_intervals)


def _only_predicted(record: Record) -> Record:
    return Record(
        record.parameters,
        {},
        record.predicted,
        {},
        {},
        status="predicted",
        predicted_intervals=record.predicted_intervals,
    )


def _key(parameters: Mapping[str, Any]) -> str:
    return json.dumps(dict(parameters), sort_keys=True)


def _path(folder: Path, study: str) -> Path:
    return folder / f"predictions_{study}.jsonl"
