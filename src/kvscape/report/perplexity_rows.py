"""Rows of perplexities as figures need them: what compares together, named, with bounds and the reference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kvscape.report.frame import plotted
from kvscape.report.weights_kind import in_order, reference_rank, weights_kind

Row = dict[str, Any]

# Rows compare where all of these are the same.
_MEASURE = ("text_sha256", "text", "protocol", "context", "stride", "limit")
SUBJECTS: Mapping[str, str] = {"kvscape": "kvscape", "transformers": "Hugging Face", "llamacpp": "llama.cpp"}
# What two rows of the same kind may differ in, and the words for it.
_TOLD: Mapping[str, str] = {
    "embedding_quantization": "embedding {}",
    "activation": "activation {}",
    "sliding_window_size": "window {}",
    "attention_sink_size": "{} sinks",
    "device": "{}",
}


@dataclass(frozen=True)
class Compared:
    """Rows of one model on one text under one protocol. ``words`` says which, ``slug`` says it in a file's name."""

    words: str
    slug: str
    rows: pl.DataFrame


def compared(frame: pl.DataFrame, needed: Sequence[str], where: str) -> list[Compared]:
    """Split a table into what compares; raise ResultsError where it has no rows to plot.

    Columns are added: ``kind`` and ``label`` of the weights, ``run_by``, ``low`` and ``high`` (one standard error
    apart), ``reference`` (the perplexity of the best floats) and ``reference_label``.
    """
    rows = plotted(frame, ("quantization", "perplexity", "standard_error", *needed), where).to_dicts()
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (_family(row), *(str(row.get(name) or "") for name in _MEASURE))
        groups.setdefault(key, []).append(_with_kind(row))
    return [_compared(group) for group in groups.values()]


def _with_kind(row: Row) -> Row:
    name, error = row.get("subject") or "kvscape", row["standard_error"]
    named = {"kind": weights_kind(row), "run_by": SUBJECTS.get(name, name), "kv_dtype": row.get("kv_dtype") or "f16"}
    return {**row, **named, "low": row["perplexity"] - error, "high": row["perplexity"] + error}


def _compared(group: list[Row]) -> Compared:
    rows = _labelled(_latest(group))
    reference = _reference(rows)
    table = pl.DataFrame([{**row, **reference} for row in rows], infer_schema_length=None, strict=False)
    return Compared(_words(rows[0]), _slug(rows[0]), table)


def _family(row: Row) -> str:
    """The model's short name; a row of kvscape's that is paired with a Hugging Face model belongs to that one."""
    paired = row.get("paired_with") if (row.get("subject") or "kvscape") == "kvscape" else None
    return str(paired or row.get("model") or "model").rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def _latest(rows: Iterable[Row]) -> list[Row]:
    """Of rows that say the same thing, the last one."""
    return list({(row["run_by"], row["kind"], row["kv_dtype"], *_told(row)): row for row in rows}.values())


def _told(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name) or "") for name in _TOLD)


def _labelled(rows: list[Row]) -> list[Row]:
    """Name each row by its kind, by who runs it where these are several, and by what else tells it from its like."""
    several = len({row["run_by"] for row in rows}) > 1
    for row in rows:
        alike = [other for other in rows if (other["run_by"], other["kind"]) == (row["run_by"], row["kind"])]
        differ = [name for name in _TOLD if len({str(other.get(name) or "") for other in alike}) > 1 and row.get(name)]
        own = [_TOLD[name].format(row[name]) for name in differ if row[name] != -1]
        plain, *calibrated = row["kind"].split(", ")
        own = [*(f"calibrated on {text}" for text in calibrated), *own]
        row["label"] = "\n".join([plain, *([row["run_by"]] if several else []), *own])
    place = {kind: number for number, kind in enumerate(in_order({row["kind"] for row in rows}))}
    return sorted(rows, key=lambda row: (place[row["kind"]], row["run_by"] == "kvscape", row["label"]))


def _reference(rows: list[Row]) -> Row:
    """What the others are held against, where there are floats: Hugging Face's before our own."""
    ranks = [(rank, number) for number, row in enumerate(rows) if (rank := reference_rank(row)) is not None]
    if not ranks:
        return {"reference": None, "reference_label": None}
    best = rows[min(ranks)[1]]
    words = f"{best['run_by']} {best['kind']}: {best['perplexity']:,.2f}"
    return {"reference": best["perplexity"], "reference_label": words}


def _words(row: Row) -> str:
    context, stride, limit = (row.get(name) for name in ("context", "stride", "limit"))
    parts = [_family(row), row.get("text"), row.get("protocol"), f"{context} tokens" if context else None]
    more = f", stride {stride}" if _counts(stride) else ""
    more += f", the first {limit}" if _counts(limit) else ""
    return " · ".join(str(part) for part in parts if part) + more


def _slug(row: Row) -> str:
    known = [_family(row), *(row.get(name) for name in ("text", "protocol", "context", "stride", "limit"))]
    known.append(str(row.get("text_sha256") or "")[:6])
    return "_".join(str(value) for value in known if value and _counts(value))


def _counts(value: Any) -> bool:
    return str(value or 0) != "0"
