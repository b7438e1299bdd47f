"""What the page's script works with: the points in columns, and what it must know of each column."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from kvscape.report.encodings import WORDS, ordered
from kvscape.report.figure import ROWS, Figure
from kvscape.report.parallel import parallel_axes
from kvscape.report.points import HAS_RUN, KNOBS, has, moving, varies
from kvscape.report.quantity import QUANTITIES, SHORT, level_words
from kvscape.report.tables import SHOWN
from kvscape.report.theme import KV_SHAPES, PAGE_CONFIG, SUBJECT_SHAPES, colours

# A knob with more values than this is filtered from a least to a most.
MOST_CHOICES = 10


def shown_knobs(frame: pl.DataFrame) -> list[str]:
    """Quantization, KV precision, and every other knob that varies."""
    return [name for name in KNOBS if name in ("quantization", "kv_dtype") or varies(frame, name)]


def study_data(frame: pl.DataFrame) -> dict[str, Any]:
    """``columns`` by name, ``knobs`` and ``measures`` of the table, and the ``axes`` of the parallel coordinates."""
    full = [column for column in frame if column.null_count() < frame.height or column.name in SHOWN]
    return {
        "columns": {column.name: column.to_list() for column in full},
        "knobs": [_knob(name, frame) for name in shown_knobs(frame)],
        "measures": [_measure(name) for name in SHOWN if has(frame, name)],
        "axes": [_axis(axis) for axis in parallel_axes(frame.filter(pl.col("status").is_in(HAS_RUN)))],
    }


def _knob(name: str, frame: pl.DataFrame) -> dict[str, Any]:
    levels = ordered(name, frame.drop_nulls([name]))
    return {
        "name": name,
        "title": WORDS[name].split(" (")[0],
        "short": SHORT[name],
        "numeric": frame[name].dtype.is_numeric(),
        "levels": [{"value": v, "words": level_words(v), **_look(name, v, frame)} for v in levels],
        "filter": "none" if name not in moving(frame) else "choice" if len(levels) <= MOST_CHOICES else "range",
    }


def _look(name: str, value: Any, frame: pl.DataFrame) -> dict[str, str]:
    """How the maps draw a value, so that its filter is their legend."""
    if name == "quantization":
        return {"colour": dict(zip(*colours(frame[name].to_list()), strict=True))[value]}
    one_subject = frame["subject"].n_unique() == 1
    if (name == "kv_dtype" and one_subject) or (name == "subject" and not one_subject):
        known = KV_SHAPES if name == "kv_dtype" else SUBJECT_SHAPES
        return {"shape": dict(zip(*colours(frame[name].to_list(), known), strict=True))[value]}
    return {}


def _measure(name: str) -> dict[str, Any]:
    quantity = QUANTITIES[name]
    words = {"name": name, "title": quantity.title, "short": SHORT[name], "unit": quantity.unit}
    return {**words, "digits": quantity.digits, "best": quantity.best}


def _axis(axis: Any) -> dict[str, Any]:
    return {
        "name": axis.name,
        "heading": axis.heading,
        "levels": list(axis.levels),
        "worst": axis.worst,
        "best": axis.best,
    }


def specifications(sections: Mapping[str, Sequence[Figure]]) -> dict[str, Any]:
    """Each figure's specification for the page: linked ones take its points and its width, all take its colours."""
    figures = [figure for group in sections.values() for figure in group]
    return {figure.name: {"spec": _for_page(figure), "linked": figure.linked} for figure in figures}


def _for_page(figure: Figure) -> dict[str, Any]:
    spec = {**figure.spec, "config": PAGE_CONFIG, "description": f"{figure.title}: {figure.subtitle}"}
    del spec["title"]
    if "layer" in spec or figure.linked:
        spec["width"] = "container"
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    if figure.linked:
        spec["datasets"] = {name: rows for name, rows in spec["datasets"].items() if name != ROWS.name}
        spec["config"] = {**PAGE_CONFIG, "legend": {"disable": True}}
    return spec


def script_json(content: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("</", "<\\/").replace("<!--", "<\\!--")
