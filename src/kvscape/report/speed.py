"""Figures of throughput and latency against quantization and every design parameter."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from kvscape.report.encodings import (
    amount,
    batches,
    by_quantization,
    category,
    in_units,
    ordered,
    panel_width,
    shape_by_kv,
    tooltips,
    with_batch,
)
from kvscape.report.figure import ROWS, Figure, figure
from kvscape.report.frame import plotted
from kvscape.report.quantity import PARAMETERS, QUANTITIES

MEASURES = {
    "throughput": ("prefill_tokens_per_s", "decode_tokens_per_s"),
    "latency": ("ttft_s", "e2e_s"),
}
FILE_WORDS = {
    "quantization": "quantization",
    "kv_dtype": "kv_dtype",
    "context_window_size": "context",
    "prefill_chunk_size": "chunk",
    "max_batch_size": "batch",
    "sliding_window_size": "sliding",
    "attention_sink_size": "sink",
}
_HEIGHT = 200


def speed_figures(
    frame: pl.DataFrame, kind: str, parameters: Sequence[str] = tuple(PARAMETERS), where: str = "the tables"
) -> list[Figure]:
    """Throughput or latency against each parameter: ``throughput_vs_context``, ``throughput_vs_batch`` and so on."""
    return [speed_vs(frame, kind, parameter, where) for parameter in parameters]


def speed_vs(frame: pl.DataFrame, kind: str, parameter: str, where: str = "the tables") -> Figure:
    """Every measured point as a mark, and the median of each quantization as a line across."""
    needed = dict.fromkeys(("quantization", "kv_dtype", "max_batch_size", parameter, *MEASURES[kind]))
    rows = with_batch(plotted(frame, tuple(needed), where))
    panels = alt.vconcat(*(_panels(rows, parameter, measure) for measure in MEASURES[kind]))
    words = PARAMETERS[parameter].split(" (")[0]
    return figure(
        f"{kind}_vs_{FILE_WORDS[parameter]}",
        f"{kind.capitalize()} by {words if words.startswith('KV') else words.lower()}",
        f"a mark is a design point; a line is the median; {_measure_words(kind)}",
        panels,
        in_units(rows),
    )


def _measure_words(kind: str) -> str:
    return " above ".join(QUANTITIES[name].title.lower() for name in MEASURES[kind])


def _panels(rows: pl.DataFrame, parameter: str, measure: str) -> alt.LayerChart | alt.FacetChart:
    inner = _layers(rows, parameter, measure)
    if parameter == "max_batch_size":
        return inner.properties(data=ROWS)
    chart: alt.FacetChart = inner.facet(column=batches(rows), data=ROWS).resolve_scale(y="independent")
    return chart


def _layers(rows: pl.DataFrame, parameter: str, measure: str) -> alt.LayerChart | alt.FacetChart:
    offset = "kv_dtype" if parameter == "quantization" else "quantization"
    base = alt.Chart().encode(
        x=category(parameter, rows),
        xOffset=alt.XOffset(f"{offset}:N", sort=ordered(offset, rows)),
        y=amount(measure),
        color=by_quantization(rows),
    )
    marks = base.mark_point(filled=True, size=60, opacity=0.75).encode(
        shape=shape_by_kv(rows), tooltip=tooltips(rows.drop("batch"))
    )
    medians = base.mark_tick(thickness=2, size=18).encode(y=amount(measure).aggregate("median"))
    step = 34 * max(2, rows[offset].n_unique())
    return alt.layer(medians, marks).properties(width=panel_width(parameter, rows, step), height=_HEIGHT)
