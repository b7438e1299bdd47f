"""Figures of quality: perplexity against weight format, bits of a weight and KV precision, with its standard error."""

import json
import math
from collections.abc import Callable, Mapping

import altair as alt
import polars as pl

from kvscape.errors import ResultsError, near_match
from kvscape.report.encodings import data, ordered, panel_width
from kvscape.report.figure import Figure, figure
from kvscape.report.perplexity_rows import SUBJECTS, Compared, compared
from kvscape.report.theme import ACCENT, SUBJECT_SHAPES
from kvscape.report.weights_kind import in_order, kind_colours

_HEIGHT = 300
_AXIS = alt.Axis(format=",~r")
# Perplexities that lie further apart than this are drawn on a logarithmic axis.
_SPAN = 6.0


def perplexity_figures(
    frame: pl.DataFrame, name: str, where: str = "the table", against: str = "quantization"
) -> list[Figure]:
    """One figure for each model, text and protocol: perplexities of two of them never compare.

    It is called ``name``; where there are several, by model, text and protocol too. Raises ResultsError where the table
    lacks a column, or has no rows to plot.
    """
    if against not in AGAINST:
        raise ResultsError(f"no perplexity against {against!r}", "", near_match(against, AGAINST))
    draw, needed = AGAINST[against]
    groups = compared(frame, needed, where)
    return [draw(group, name if len(groups) == 1 else f"{name}_{group.slug}") for group in groups]


def quality_figures(frame: pl.DataFrame, stem: str) -> list[Figure]:
    """Perplexity against all that a study varied, named ``<stem>_vs_...``."""
    found = perplexity_figures(frame, f"{stem}_vs_quant")
    if "bits_per_weight" in frame.columns and frame["bits_per_weight"].drop_nulls().n_unique() > 1:
        found += perplexity_figures(frame, f"{stem}_vs_bits", against="bits_per_weight")
    if "kv_dtype" in frame.columns and frame["kv_dtype"].n_unique() > 1:
        found += perplexity_figures(frame, f"{stem}_vs_kv", against="kv_dtype")
    return found


def vs_quantization(group: Compared, name: str) -> Figure:
    """Bars by weight format, and a dashed line where the reference is."""
    rows, kinds = group.rows, ordered("kv_dtype", group.rows)
    labels, present = _labels(rows), in_order(set(rows["kind"]))
    x = alt.X("label:N", title=None, sort=labels, axis=alt.Axis(labelExpr="split(datum.label, '\\n')", labelPadding=6))
    base = alt.Chart(data(rows)).encode(x=x, xOffset=alt.XOffset("kv_dtype:N", sort=kinds))
    bars = base.mark_bar(cornerRadiusEnd=3).encode(
        y=_perplexity(rows, bars=True),
        y2=alt.datum(_floor(rows)),
        color=alt.Color("kind:N", scale=alt.Scale(domain=present, range=kind_colours(present)), legend=None),
        opacity=_by_shade(kinds),
        tooltip=_tips(rows),
    )
    errors = base.mark_rule(style="whisker").encode(y="low:Q", y2="high:Q")
    text = base.mark_text(dy=-8, style="label", fontSize=10).encode(
        y="high:Q", text=alt.Text("perplexity:Q", format=",.4r")
    )
    layers = [bars, *_reference(rows), errors, text]
    return _drawn(name, "quantization", group, layers, panel_width("label", rows, max(92, 52 * len(kinds))))


def vs_bits(group: Compared, name: str) -> Figure:
    """Points by what a weight takes, of the KV precision that loses least; the reference's stand behind ours."""
    rows = group.rows.filter(pl.col("kv_dtype") == ordered("kv_dtype", group.rows)[0])
    bits = rows["bits_per_weight"].to_list()
    ticks = alt.Axis(values=[2, 3, 4, 5, 6, 8, 12, 16, 24, 32], format="d")
    scale = alt.Scale(type="log", base=2, domain=[0.85 * min(bits), 1.12 * max(bits)], nice=False)
    x = alt.X("bits_per_weight:Q", title="Bits per weight", axis=ticks, scale=scale)
    base = alt.Chart(data(rows)).encode(x=x, color=_by_label(rows))
    points = base.mark_point(filled=True, opacity=1).encode(
        y=_perplexity(rows),
        shape=_by_subject(rows),
        size=alt.condition(alt.datum.run_by == "kvscape", alt.value(80), alt.value(260)),
        tooltip=_tips(rows),
    )
    errors = base.mark_rule(strokeWidth=1.5).encode(y=_perplexity(rows, "low"), y2="high:Q")
    return _drawn(name, "bits per weight", group, [*_reference(rows), errors, points], 460)


def vs_kv(group: Compared, name: str) -> Figure:
    """A line for each weight format along the KV precisions, each a little beside the other, for their whiskers."""
    kinds, labels = ordered("kv_dtype", group.rows), _labels(group.rows)
    beside = {label: 0.04 * (place - (len(labels) - 1) / 2) for place, label in enumerate(labels)}
    place = pl.col("kv_dtype").replace_strict({kind: float(place) for place, kind in enumerate(kinds)})
    rows = group.rows.with_columns(place=place + pl.col("label").replace_strict(beside)).sort("place")
    axis = alt.Axis(values=list(range(len(kinds))), labelExpr=f"{json.dumps(kinds)}[datum.value]", grid=False)
    scale = alt.Scale(domain=[-0.5, len(kinds) - 0.5], nice=False)
    base = alt.Chart(data(rows)).encode(
        x=alt.X("place:Q", title="KV precision", axis=axis, scale=scale), color=_by_label(group.rows)
    )
    lines = base.mark_line(strokeWidth=2).encode(y=_perplexity(rows))
    points = base.mark_point(filled=True, size=70, opacity=1).encode(y=_perplexity(rows), tooltip=_tips(rows))
    errors = base.mark_rule(strokeWidth=1.5).encode(y=_perplexity(rows, "low"), y2="high:Q")
    return _drawn(name, "KV precision", group, [*_reference(rows), lines, errors, points], max(240, 120 * len(kinds)))


Draw = Callable[[Compared, str], Figure]
AGAINST: Mapping[str, tuple[Draw, tuple[str, ...]]] = {
    "quantization": (vs_quantization, ()),
    "bits_per_weight": (vs_bits, ("bits_per_weight",)),
    "kv_dtype": (vs_kv, ("kv_dtype",)),
}


def _drawn(name: str, words: str, group: Compared, layers: list[alt.Chart], width: int) -> Figure:
    subtitle = f"{group.words}; whiskers: one standard error up and down"
    chart = alt.LayerChart(layer=layers, width=width, height=_HEIGHT)
    return figure(name, f"Perplexity by {words}", subtitle, chart)


def _labels(rows: pl.DataFrame) -> list[str]:
    return rows["label"].unique(maintain_order=True).to_list()


def _reference(rows: pl.DataFrame) -> list[alt.Chart]:
    """A dashed line and its words behind the panel's right edge, where there is a reference."""
    if rows["reference"][0] is None:
        return []
    once = alt.Chart(alt.InlineData(values=rows.select("reference", "reference_label").head(1).to_dicts()))
    line = once.mark_rule(style="front", strokeDash=[5, 4]).encode(y="reference:Q")
    words = once.mark_text(align="left", dx=7, style="faint").encode(
        x=alt.value("width"), y="reference:Q", text="reference_label:N"
    )
    return [line, words]


def _perplexity(rows: pl.DataFrame, column: str = "perplexity", bars: bool = False) -> alt.Y:
    """Bars begin at zero, points need not; where some lie far above the others the axis is logarithmic."""
    scale, words = alt.Scale(zero=bars, nice=True, padding=0 if bars else 12), ""
    if floor := _floor(rows):
        highest = max(rows["high"].to_list())
        scale, words = alt.Scale(type="log", domain=[floor, 1.3 * highest], nice=False), ", logarithmic"
    return alt.Y(f"{column}:Q", title=f"Perplexity{words} (lower is better)", scale=scale, axis=_AXIS)


def _floor(rows: pl.DataFrame) -> float:
    """Where a logarithmic axis begins: a power of ten; 0 where the axis is an ordinary one."""
    low, high = min(rows["low"].to_list()), max(rows["high"].to_list())
    return 10.0 ** math.floor(math.log10(low)) if high > _SPAN * low > 0 else 0.0


def _by_label(rows: pl.DataFrame) -> alt.Color:
    labels = _labels(rows)
    kinds = [rows.filter(pl.col("label") == label)["kind"][0] for label in labels]
    legend = alt.Legend(title="Weights", labelExpr="replace(datum.label, /\\n/g, ', ')", labelLimit=280)
    scale = alt.Scale(domain=labels, range=kind_colours(kinds))
    return alt.Color("label:N", sort=labels, scale=scale, legend=legend)


def _by_subject(rows: pl.DataFrame) -> alt.Shape:
    """A shape for whoever runs the weights; a legend where these are several."""
    shapes = {name: SUBJECT_SHAPES.get(subject, "diamond") for subject, name in SUBJECTS.items()}
    present = [name for name in shapes if name in set(rows["run_by"])]
    scale = alt.Scale(domain=present, range=[shapes[name] for name in present])
    return alt.Shape("run_by:N", scale=scale, legend=alt.Legend(title="Run by") if len(present) > 1 else None)


def _by_shade(kinds: list[str]) -> alt.Opacity:
    """KV precisions by how full a bar's colour is."""
    shades = [1.0 - 0.5 * place / max(1, len(kinds) - 1) for place in range(len(kinds))]
    legend = alt.Legend(title="KV precision", symbolFillColor=ACCENT) if len(kinds) > 1 else None
    return alt.Opacity("kv_dtype:N", sort=kinds, scale=alt.Scale(domain=kinds, range=shades), legend=legend)


def _tips(rows: pl.DataFrame) -> list[alt.Tooltip]:
    names = ("model", "paired_with", "run_by", "quantization", "embedding_quantization", "kv_dtype", "tokens_scored")
    numbers = ("perplexity", "standard_error", "bits_per_byte", "bits_per_weight")
    plain = [alt.Tooltip(f"{name}:N") for name in names if name in rows.columns]
    return plain + [alt.Tooltip(f"{name}:Q", format=",.4f") for name in numbers if name in rows.columns]
