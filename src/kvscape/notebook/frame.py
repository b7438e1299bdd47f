"""Records as a data frame, in base units: bytes, seconds, tokens per second."""

from collections.abc import Sequence

import polars as pl

from kvscape.results import Record


def study_frame(records: Sequence[Record]) -> pl.DataFrame:
    """One row for each record: its parameters and metrics under their own names, status and reason.

    Of a metric there may also be ``<name>_low`` and ``<name>_high``, its 95 % interval, and ``<name>_predicted`` with
    bounds of its own. Columns that no record has are left out.
    """
    rows = [
        {
            **record.parameters,
            **record.metrics,
            **_bounds(record.intervals),
            **{f"{name}_predicted": value for name, value in record.predicted.items()},
            **_bounds({f"{name}_predicted": ends for name, ends in record.predicted_intervals.items()}),
            "status": record.status,
            "reason": record.reason,
        }
        for record in records
    ]
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)


def _bounds(intervals: dict[str, list[float]]) -> dict[str, float]:
    sides = ("low", "high")
    return {f"{name}_{side}": end for name, ends in intervals.items() for side, end in zip(sides, ends, strict=True)}
