"""Measurements as a data frame: from CSV files or from records, each with the columns that a plot needs."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from kvscape.errors import ResultsError
from kvscape.report.quantity import PARAMETERS, QUANTITIES
from kvscape.results import PerplexityRecord, Record

_NUMBERS = {**dict.fromkeys(QUANTITIES, pl.Float64), "standard_error": pl.Float64}
_COUNTS = tuple(name for name in PARAMETERS if name not in ("quantization", "kv_dtype"))


def read_csv(paths: Sequence[Path]) -> pl.DataFrame:
    """Read CSV files one below the other; raise ResultsError when one is missing, empty or not a table."""
    return _typed(pl.concat([_read_one(path) for path in paths], how="diagonal_relaxed"))


def _read_one(path: Path) -> pl.DataFrame:
    if path.is_dir():
        raise ResultsError(f"cannot read {path}", "it is a folder", f"give the files in it, such as {path}/*.csv")
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except OSError as error:
        why = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ResultsError(f"cannot read {path}", why, "give a CSV file that 'kvscape bench' or 'ppl' wrote") from None
    except pl.exceptions.NoDataError:
        raise ResultsError(f"{path} is empty", "it has no header line", "measure again") from None
    except pl.exceptions.PolarsError as error:
        raise ResultsError(f"{path} is not a CSV table", str(error).splitlines()[0], "measure again") from None
    if frame.is_empty():
        raise ResultsError(f"{path} is empty", "it has a header and no rows", "measure again")
    _check_numbers(frame, path)
    return frame


def _check_numbers(frame: pl.DataFrame, path: Path) -> None:
    """Raise ResultsError for a word where a number belongs; what was not measured is empty."""
    for name in (name for name in (*_NUMBERS, *_COUNTS) if name in frame.columns):
        words = frame[name].fill_null("").str.strip_chars()
        numbers = words.cast(pl.Float64, strict=False)
        wrong = (words != "") & numbers.is_null()
        if name in _COUNTS:
            wrong |= ~numbers.is_finite().fill_null(True)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            what = f"{name} = {frame[name][row]!r} in line {row + 2} of {path}"
            raise ResultsError(what, "it is no number", "correct it, or measure again")


def from_records(records: Iterable[Record]) -> pl.DataFrame:
    """One row for each record: its parameters, metrics, status and reason."""
    return _from_rows([{**r.parameters, **r.metrics, "status": r.status, "reason": r.reason} for r in records])


def from_perplexities(records: Iterable[PerplexityRecord]) -> pl.DataFrame:
    """One row for each perplexity."""
    return _from_rows([{**r.parameters, **r.to_json()} for r in records])


def _from_rows(rows: list[dict[str, Any]]) -> pl.DataFrame:
    plain = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]
    return _typed(pl.DataFrame(plain, infer_schema_length=None, strict=False))


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = [pl.col(name).cast(kind, strict=False) for name, kind in _NUMBERS.items() if name in frame.columns]
    counts = [pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64) for name in _COUNTS if name in frame.columns]
    return _apart(frame.with_columns(*numbers, *counts).fill_nan(None))


def _apart(frame: pl.DataFrame) -> pl.DataFrame:
    """Calibrated weights are another choice than plain ones: "q4f16_1, self"."""
    if "calibrate" not in frame.columns or frame["calibrate"].is_null().all():
        return frame
    text = pl.col("calibrate").cast(pl.String).str.split("/").list.last()
    return frame.with_columns(
        pl.concat_str("quantization", text, separator=", ", ignore_nulls=True).alias("quantization")
    )


def plotted(frame: pl.DataFrame, columns: Sequence[str], where: str = "the table") -> pl.DataFrame:
    """Rows that were measured and have every one of ``columns``.

    Raises ResultsError naming a column that is missing, or saying that no row is left.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ResultsError(f"{where} has no column {missing[0]!r}", "the plot needs it", "give a file that has it")
    measured = frame.filter(pl.col("status") == "ok") if "status" in frame.columns else frame
    rows = measured.drop_nulls(list(columns))
    if rows.is_empty():
        why = f"no measured row has all of {', '.join(columns)}"
        raise ResultsError(f"{where} has no rows to plot", why, "measure more points")
    return rows


def varying(frame: pl.DataFrame) -> list[str]:
    """The design parameters that take more than one value."""
    return [name for name in PARAMETERS if name in frame.columns and frame[name].n_unique() > 1]


def finite(value: float | None) -> float | None:
    """A number that JSON can hold, else None."""
    return value if value is not None and math.isfinite(value) else None
