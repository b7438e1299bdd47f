"""The points of a study as one frame for figures that belong together: measured or else predicted, in shown units."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from kvscape.config import ASKED, BuildConfig, EngineConfig
from kvscape.errors import ResultsError
from kvscape.report.quantity import MORE_PARAMETERS, PARAMETERS, QUANTITIES, SHORT
from kvscape.results import Record

MEASURES = (
    "total_bytes",
    "kv_cache_bytes",
    "decode_tokens_per_s",
    "prefill_tokens_per_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "perplexity",
)
# What is asked of a point, not what it costs: points of different workloads do not compete.
WORKLOAD = ("context_window_size", "max_batch_size", *ASKED)
ENDPOINT, UNTOLD = "endpoint", "not known"
_DEFAULTS = {"quantization": BuildConfig.quantization, "kv_dtype": EngineConfig.kv_dtype}
MACHINE, ASKED_WORDS = "machine", "asked"
# All that may tell points apart: a workload that differs in several parameters is one knob of its own.
KNOBS = ("model", "device", "subject", "endpoint", *PARAMETERS, *MORE_PARAMETERS, *ASKED, ASKED_WORDS, MACHINE)
HAS_RUN = ("ok", "predicted")


def point_frame(
    records: Sequence[Record], front: Sequence[Record] = (), point: Mapping[str, Any] | None = None
) -> pl.DataFrame:
    """One row for each record, with an ``id``, its knobs and, in the units they are shown in, its measures.

    A measure has ``<name>``, the interval ``<name>_low`` to ``<name>_high`` where one is known, and
    ``<name>_predicted`` with its own interval. ``origin`` is measured, predicted or none. ``front`` and
    ``recommended`` say what stands out, ``home`` whose workload is that of the recommended ``point``.
    Raises ResultsError when there is no record.
    """
    if not records:
        raise ResultsError("nothing to plot", "there is no record", "run 'kvscape study' first")
    best = [record.parameters for record in front]
    asked = [name for name in WORKLOAD if len({record.parameters.get(name) for record in records}) > 1]
    home = _workload(point, asked) if point else None
    rows = [
        {
            "id": place,
            **knobs,
            **untold(record.parameters),
            **_numbers(record),
            "origin": {"ok": "measured", "predicted": "predicted"}.get(record.status, "none"),
            "status": record.status,
            "reason": record.reason,
            "workload": _workload(record.parameters, asked),
            "home": home in (None, _workload(record.parameters, asked)),
            "front": record.parameters in best,
            "recommended": record.parameters == point,
        }
        for place, (record, knobs) in enumerate(zip(records, knob_values(records), strict=True))
    ]
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)


def knob_values(records: Sequence[Record]) -> list[dict[str, Any]]:
    """``KNOBS`` of each record; of what is asked, either the one parameter that differs or the words for several."""
    asked = [name for name in ASKED if len({record.parameters.get(name) for record in records}) > 1]
    alone = asked if len(asked) == 1 else []
    return [
        {
            **{name: record.parameters.get(name) for name in KNOBS if name not in ASKED},
            **{name: record.parameters[name] if name in alone else None for name in ASKED},
            ASKED_WORDS: _workload(record.parameters, asked) if len(asked) > 1 else None,
            MACHINE: _machine(record.environment),
        }
        for record in records
    ]


def _machine(environment: Mapping[str, Any]) -> str | None:
    """What a prediction was made for is not said: it is this machine."""
    known = (environment.get(name) for name in ("node", MACHINE))
    return next((str(name) for name in known if name), None)


def untold(parameters: Mapping[str, Any]) -> dict[str, str]:
    """A server's formats are its own, where a study does not name them."""
    if parameters.get("subject") != ENDPOINT:
        return {}
    return {name: UNTOLD for name, value in _DEFAULTS.items() if parameters.get(name) == value}


def _numbers(record: Record) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    measured = record.status == "ok"
    for name in MEASURES:
        own, own_interval = record.metrics.get(name), interval(record, name)
        told, told_interval = record.predicted.get(name), record.predicted_intervals.get(name)
        value, bounds = (own, own_interval) if measured else (told, told_interval)
        found |= {
            name: _shown(name, value),
            f"{name}_low": _shown(name, bounds[0] if bounds else None),
            f"{name}_high": _shown(name, bounds[1] if bounds else None),
            f"{name}_predicted": _shown(name, told),
            f"{name}_predicted_low": _shown(name, told_interval[0] if told_interval else None),
            f"{name}_predicted_high": _shown(name, told_interval[1] if told_interval else None),
        }
    return found


def interval(record: Record, name: str) -> Sequence[float] | None:
    """The interval of a measured median; of an older record the range of its runs."""
    if name in record.intervals:
        return record.intervals[name]
    runs = record.samples.get(name, [])
    return (min(runs), max(runs)) if len(runs) > 1 else None


def _shown(name: str, value: float | None) -> float | None:
    """Six digits are more than any measurement has, and keep a page of thousands of points small."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * QUANTITIES[name].factor:.6g}")


def _workload(parameters: Mapping[str, Any], names: Sequence[str]) -> str:
    given = {name: value for name in names if (value := parameters.get(name)) is not None}
    return " · ".join(f"{SHORT[name]} {_amount(value)}" for name, value in given.items())


def _amount(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,g}"


def known(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Rows that have every one of these measures; raise ResultsError when there is none."""
    rows = frame.drop_nulls(list(names))
    if rows.is_empty():
        raise ResultsError("the study has no rows to plot", f"no point has all of {', '.join(names)}", "measure more")
    return rows


def has(frame: pl.DataFrame, name: str) -> bool:
    """Whether any point has this measure."""
    return frame[name].drop_nulls().len() > 0


def moving(frame: pl.DataFrame) -> list[str]:
    """Knobs that take more than one value among the points that have run or are predicted."""
    ran = frame.filter(pl.col("status").is_in(HAS_RUN))
    return [name for name in KNOBS if varies(ran, name)]


def varies(frame: pl.DataFrame, name: str) -> bool:
    """Whether a knob takes more than one value; where a machine is not said, it is any of them."""
    column = frame[name].drop_nulls() if name == MACHINE else frame[name]
    return column.n_unique() > 1


def plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for a specification, without columns that are empty everywhere."""
    full = [column.name for column in frame if column.null_count() < frame.height]
    return frame.select(full).to_dicts()
