"""How far a study's answer can be trusted: what was run, how much its runs differ, how wrong predictions were."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from kvscape.report.points import interval
from kvscape.report.prediction import inside, mean_error
from kvscape.report.quantity import QUANTITIES
from kvscape.results import Record

_TOLD = ("decode_tokens_per_s", "prefill_tokens_per_s", "total_bytes")


def record_of(records: Sequence[Record], point: Mapping[str, Any]) -> Record | None:
    """The record of a design point."""
    return next((record for record in records if record.parameters == point), None)


def spread(record: Record | None, name: str) -> str:
    """The interval of one of a record's numbers, e.g. ``109.2 to 159.8``; empty where none is known."""
    if record is None:
        return ""
    bounds = interval(record, name) if record.status == "ok" else record.predicted_intervals.get(name)
    return f"{QUANTITIES[name].shown(bounds[0])} to {QUANTITIES[name].shown(bounds[1])}" if bounds else ""


def trust(record: Record | None, frame: pl.DataFrame) -> list[str]:
    """Sentences: of the point itself, then of the predictions."""
    return [sentence for sentence in (_of_point(record), _of_predictions(frame)) if sentence]


def _of_point(record: Record | None) -> str:
    if record is None:
        return ""
    if record.status == "predicted":
        return "This point was predicted, not run: measure it with the commands below before you rely on it."
    runs = max((len(record.samples.get(name, [])) for name in _TOLD), default=0)
    if not runs:
        return "This point was measured."
    kind = "its 95 % interval" if record.intervals else "the range of its runs"
    ran = f"{runs} runs" if runs > 1 else "one run"
    return f"This point was measured in {ran}" + (f"; the small numbers are {kind}." if runs > 1 else ".")


def _of_predictions(frame: pl.DataFrame) -> str:
    errors = [(name, error) for name in _TOLD if (error := mean_error(frame, name)) is not None]
    if not errors:
        return ""
    words = ", ".join(f"{_lower(QUANTITIES[name].title)} {error:.1%}" for name, error in errors)
    within, known = inside(frame, _TOLD[0])
    covered = f" {within} of {known} decode speeds lay inside the predicted interval." if known else ""
    return f"What was predicted of the measured points was off, in the mean, by: {words}.{covered}"


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]
