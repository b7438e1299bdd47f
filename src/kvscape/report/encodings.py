"""Encodings that every figure shares: rows as inline data, colour by quantization, columns by batch."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from kvscape.report.points import ASKED_WORDS, MACHINE, MEASURES, has, moving
from kvscape.report.quantity import ASKED_PARAMETERS, MORE_PARAMETERS, OFF, PARAMETERS, QUANTITIES
from kvscape.report.theme import KV_COLOURS, KV_SHAPES, PART_COLOURS, SUBJECT_SHAPES, colours

WORDS = {
    "model": "Model",
    "device": "Device",
    "subject": "Subject",
    "endpoint": "Server",
    **PARAMETERS,
    **MORE_PARAMETERS,
    **ASKED_PARAMETERS,
    ASKED_WORDS: "Workload",
    MACHINE: "Machine",
}


def data(frame: pl.DataFrame) -> alt.InlineData:
    """Rows inside the specification: the figure needs no other file. Quantities are in the unit they are shown in."""
    return alt.InlineData(values=in_units(frame))


def in_units(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows with their quantities in the unit they are shown in."""
    scaled = [pl.col(q.name) * q.factor for q in QUANTITIES.values() if q.name in frame.columns]
    return frame.with_columns(*scaled).to_dicts()


def with_batch(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the heading of the panel that a row belongs to."""
    return frame.with_columns(("batch " + pl.col("max_batch_size").cast(pl.String)).alias("batch"))


def panel_width(name: str, frame: pl.DataFrame, step: int = 64) -> int:
    """Pixels of a panel whose x axis shows each value of ``name``."""
    return max(150, step * frame[name].n_unique())


def category(name: str, frame: pl.DataFrame, title: str | None = None) -> alt.X:
    """A design parameter along x, its values in order at equal distances; a window of -1 reads "off"."""
    label = (
        f"datum.value == -1 ? '{OFF}' : format(datum.value, ',')" if frame[name].dtype.is_numeric() else "datum.label"
    )
    return alt.X(
        f"{name}:O",
        title=PARAMETERS[name] if title is None else title,
        sort=ordered(name, frame),
        axis=alt.Axis(labelExpr=label),
    )


def ordered(name: str, frame: pl.DataFrame) -> list[Any]:
    """A parameter's values in the order they are shown in: numbers rising, "off" last, names as in the palette.

    Workloads stand as the study has them; what is left to its default comes first.
    """
    values = frame[name].unique(maintain_order=True).to_list()
    if name == ASKED_WORDS:
        return values
    if name == "quantization":
        return list(colours(values)[0])
    if name == "kv_dtype":
        return list(colours(values, KV_COLOURS)[0])
    return [None] * (None in values) + sorted((v for v in values if v is not None), key=lambda v: (v == -1, v))


def amount(name: str, title: str | None = None, zero: bool = True) -> alt.Y:
    """A quantity along y, in its unit."""
    label = QUANTITIES[name].label if title is None else title
    return alt.Y(f"{name}:Q", title=label, scale=alt.Scale(zero=zero, nice=True), axis=alt.Axis(format=",~r"))


def by_quantization(frame: pl.DataFrame, legend: bool = True) -> alt.Color:
    domain, palette = colours(frame["quantization"].to_list())
    scale = alt.Scale(domain=domain, range=palette)
    return alt.Color("quantization:N", title="Quantization", scale=scale, **_legend(legend))


def _legend(shown: bool) -> dict[str, Any]:
    return {} if shown else {"legend": None}


def by_kv(frame: pl.DataFrame) -> alt.Color:
    domain, palette = colours(frame["kv_dtype"].to_list(), KV_COLOURS)
    return alt.Color("kv_dtype:N", title="KV precision", scale=alt.Scale(domain=domain, range=palette))


def by_part() -> alt.Color:
    names, palette = list(PART_COLOURS), list(PART_COLOURS.values())
    return alt.Color("part:N", title="Memory", sort=names, scale=alt.Scale(domain=names, range=palette))


def shape_by_kv(frame: pl.DataFrame, legend: bool = True) -> alt.Shape:
    domain, shapes = colours(frame["kv_dtype"].to_list(), KV_SHAPES)
    scale = alt.Scale(domain=domain, range=shapes)
    return alt.Shape("kv_dtype:N", title="KV precision", scale=scale, **_legend(legend))


def shape_by(frame: pl.DataFrame, legend: bool = True) -> alt.Shape:
    """Shapes tell subjects apart where there are several, else KV precisions."""
    if frame["subject"].n_unique() == 1:
        return shape_by_kv(frame, legend)
    domain, shapes = colours(frame["subject"].to_list(), SUBJECT_SHAPES)
    scale = alt.Scale(domain=domain, range=shapes)
    return alt.Shape("subject:N", title="Subject", scale=scale, **_legend(legend))


def point_tips(frame: pl.DataFrame) -> list[alt.Tooltip]:
    """What a point of ``points.point_frame`` is, where its numbers are from, and its measures."""
    knobs = dict.fromkeys(("quantization", "kv_dtype", *moving(frame)))
    tips = [alt.Tooltip(f"{name}:N", title=WORDS[name]) for name in knobs]
    tips.append(alt.Tooltip("origin:N", title="Numbers are"))
    for name in MEASURES:
        if has(frame, name):
            quantity = QUANTITIES[name]
            tips.append(alt.Tooltip(f"{name}:Q", title=quantity.label, format=f",.{quantity.digits}f"))
        if name == "decode_tokens_per_s" and has(frame, f"{name}_low"):
            ends = {"low": "at least", "high": "at most"}
            tips += [alt.Tooltip(f"{name}_{end}:Q", title=word, format=",.1f") for end, word in ends.items()]
    return tips


def tooltips(frame: pl.DataFrame) -> list[alt.Tooltip]:
    """Everything about a point that the frame has."""
    tips = [alt.Tooltip(f"{name}:N", title=title) for name, title in PARAMETERS.items() if name in frame.columns]
    for quantity in QUANTITIES.values():
        if quantity.name in frame.columns:
            form = f",.{quantity.digits}f"
            tips.append(alt.Tooltip(f"{quantity.name}:Q", title=quantity.label, format=form))
    return tips


def batches(frame: pl.DataFrame) -> alt.Column:
    """One column of panels for each batch size."""
    order = [f"batch {value}" for value in sorted(frame["max_batch_size"].unique().to_list())]
    return alt.Column("batch:N", title=None, sort=order, header=alt.Header(labelOrient="top"))


def largest(frame: pl.DataFrame, groups: Sequence[str], measures: Sequence[str]) -> pl.DataFrame:
    """The largest of each measure where other parameters vary inside a group."""
    return frame.group_by(list(groups), maintain_order=True).agg(pl.col(list(measures)).max())
