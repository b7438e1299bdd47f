"""The map: memory against decode speed and quality, the front filled and what it beats faint."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from kvscape.errors import ResultsError
from kvscape.report.encodings import amount, by_quantization, data, shape_by_kv, tooltips
from kvscape.report.figure import Figure, figure
from kvscape.report.frame import from_records, plotted
from kvscape.report.quantity import QUANTITIES
from kvscape.report.theme import INK
from kvscape.results import Record

_WIDTH, _HEIGHT = 820, 400
_NEEDED = ("quantization", "kv_dtype", "total_bytes")


def pareto(
    records: Sequence[Record],
    front: Sequence[Record] = (),
    point: dict[str, Any] | None = None,
    measure: str = "decode_tokens_per_s",
) -> Figure:
    """Total memory against ``measure``; ``front`` and the recommended ``point`` (its parameters) stand out.

    Raises ResultsError when no record was measured.
    """
    if not records:
        raise ResultsError("nothing to plot", "there is no record", "run 'kvscape study' first")
    best = [record.parameters for record in front]
    marked = from_records(records).with_columns(
        front=pl.Series([not best or record.parameters in best for record in records]),
        recommended=pl.Series([record.parameters == point for record in records]),
    )
    rows = plotted(marked, (*_NEEDED, measure), "the study")
    base = alt.Chart(data(rows)).encode(x=_memory_axis(), y=amount(measure, zero=measure != "perplexity"))
    marks = base.mark_point(filled=True, size=110, stroke="white", strokeWidth=0.8).encode(
        color=by_quantization(rows),
        shape=shape_by_kv(rows),
        opacity=alt.condition("datum.front || datum.recommended", alt.value(0.95), alt.value(0.25)),
        tooltip=tooltips(rows),
    )
    ring = base.transform_filter("datum.recommended").mark_point(size=420, color=INK, strokeWidth=1.8)
    name = base.transform_filter("datum.recommended")
    halo = name.mark_text(text="recommended", dx=16, align="left", fontWeight=600, stroke="white", strokeWidth=4)
    text = name.mark_text(text="recommended", dx=16, align="left", fontWeight=600, color=INK)
    chart = alt.layer(marks, ring, halo, text).properties(width=_WIDTH, height=_HEIGHT)
    title = f"Total memory and {QUANTITIES[measure].title.lower()}"
    return figure(f"pareto_{measure.removesuffix('_tokens_per_s')}", title, _subtitle(best), chart)


def _memory_axis() -> alt.X:
    return alt.X(
        "total_bytes:Q",
        title=QUANTITIES["total_bytes"].label,
        scale=alt.Scale(zero=False, nice=True, padding=24),
        axis=alt.Axis(format=",~r", grid=True),
    )


def _subtitle(best: list[dict[str, Any]]) -> str:
    return "each mark is a design point; faint ones are beaten in memory, speed and quality alike" if best else ""
