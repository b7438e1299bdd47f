"""Figures of memory: KV cache and total against context, window and quantization."""

import altair as alt
import polars as pl

from kvscape.report.encodings import (
    amount,
    batches,
    by_kv,
    by_part,
    by_quantization,
    category,
    data,
    largest,
    ordered,
    panel_width,
    with_batch,
)
from kvscape.report.figure import Figure, figure
from kvscape.report.frame import plotted
from kvscape.report.quantity import MIB, QUANTITIES

_DESIGN = ("kv_dtype", "max_batch_size")
_PARTS = ("weights_bytes", "kv_cache_bytes", "workspace_bytes", "runtime_bytes")
_HEIGHT = 260


def memory_figures(frame: pl.DataFrame, label: str, where: str = "the table") -> list[Figure]:
    """The three figures of one model, named ``<label>_mem_...``."""
    return [
        kv_cache_vs(frame, "context_window_size", f"{label}_mem_kvcache_vs_context", label, where),
        total_vs_context(frame, label, where),
        kv_cache_vs(frame, "sliding_window_size", f"{label}_mem_kvcache_vs_sliding", label, where),
    ]


def kv_cache_vs(frame: pl.DataFrame, parameter: str, name: str, label: str, where: str = "the table") -> Figure:
    """Bars of the KV cache's size against one parameter, by KV precision and batch."""
    rows = plotted(frame, (*_DESIGN, parameter, "kv_cache_bytes"), where)
    rows = with_batch(largest(rows, (parameter, *_DESIGN), ["kv_cache_bytes"]))
    chart = _bars(rows, parameter).facet(column=batches(rows), data=data(rows))
    words = {"context_window_size": "context window", "sliding_window_size": "sliding window"}[parameter]
    return figure(name, f"KV cache by {words}", label, chart)


def _bars(rows: pl.DataFrame, parameter: str) -> alt.LayerChart | alt.FacetChart:
    """The KV cache as bars side by side for each KV precision, with their values above."""
    base = alt.Chart().encode(
        x=category(parameter, rows),
        xOffset=alt.XOffset("kv_dtype:N", sort=ordered("kv_dtype", rows)),
        y=amount("kv_cache_bytes"),
    )
    text = base.mark_text(dy=-7, style="label", fontSize=10).encode(text=alt.Text("kv_cache_bytes:Q", format=",.1f"))
    return alt.layer(base.mark_bar(cornerRadiusEnd=2).encode(color=by_kv(rows)), text).properties(
        width=panel_width(parameter, rows, 84), height=_HEIGHT
    )


def total_vs_context(frame: pl.DataFrame, label: str, where: str = "the table") -> Figure:
    """Stacked bars of weights, KV cache and workspace against the context window."""
    rows = with_batch(_by_part(plotted(frame, (*_DESIGN, "context_window_size", *_PARTS), where)))
    kinds = rows["kv_dtype"].unique().to_list()
    chart = (
        alt.Chart()
        .mark_bar(cornerRadiusEnd=1)
        .encode(
            x=category("context_window_size", rows),
            xOffset=alt.XOffset("kv_dtype:N", sort=ordered("kv_dtype", rows)),
            y=alt.Y("mib:Q", title="Memory (MiB)", axis=alt.Axis(format=",~r")),
            color=by_part(),
            order=alt.Order("order:Q"),
            tooltip=[alt.Tooltip("kv_dtype:N", title="KV precision"), "part:N", alt.Tooltip("mib:Q", format=",.1f")],
        )
        .properties(width=panel_width("context_window_size", rows, 84), height=_HEIGHT)
        .facet(column=batches(rows), data=data(rows))
    )
    pairs = f"; each pair, left to right: KV {' and '.join(ordered('kv_dtype', rows))}" if len(kinds) > 1 else ""
    return figure(f"{label}_mem_total_vs_context", "Total memory by context window", label + pairs, chart)


def _by_part(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each part of the memory; the largest where chunk or quantization vary as well."""
    groups = ("context_window_size", *_DESIGN)
    long = largest(rows, groups, _PARTS).unpivot(list(_PARTS), index=list(groups), variable_name="name")
    return long.with_columns(
        mib=pl.col("value") * MIB,
        part=pl.col("name").replace_strict({name: QUANTITIES[name].title for name in _PARTS}),
        order=pl.col("name").replace_strict({name: place for place, name in enumerate(_PARTS)}),
    )


def quantization_compare(frame: pl.DataFrame, where: str = "the tables") -> Figure:
    """Weights beside the KV cache at the longest context, for each quantization."""
    rows = plotted(frame, ("quantization", *_DESIGN, "context_window_size", "weights_bytes", "kv_cache_bytes"), where)
    weights = largest(rows, ["quantization"], ["weights_bytes"])
    longest = rows.filter(pl.col("context_window_size") == rows["context_window_size"].max())
    cache = largest(longest, ("quantization", "kv_dtype"), ["kv_cache_bytes"])
    base = alt.Chart(data(weights)).encode(x=category("quantization", weights), y=amount("weights_bytes"))
    text = base.mark_text(dy=-7, style="label", fontSize=10).encode(text=alt.Text("weights_bytes:Q", format=",.1f"))
    left = alt.layer(base.mark_bar(cornerRadiusEnd=2).encode(color=by_quantization(weights)), text)
    right = _bars(cache, "quantization").properties(data=data(cache))
    chart = alt.hconcat(left.properties(width=panel_width("quantization", weights, 84), height=_HEIGHT), right)
    context, batch = longest.select("context_window_size", "max_batch_size").max().row(0)
    subtitle = f"KV cache at context {context:,}, batch {batch}"
    return figure(
        "kv_cache_quant_compare",
        "Weights and KV cache by quantization",
        subtitle,
        chart.resolve_scale(color="independent"),
    )
