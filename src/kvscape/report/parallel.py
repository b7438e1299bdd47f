"""Parallel coordinates: each design point is a line over its knobs and measures; of a measure, up is better."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from kvscape.report.encodings import WORDS, by_quantization, ordered, point_tips
from kvscape.report.figure import Figure, figure
from kvscape.report.pareto import PICKED, STANDS_OUT, linked
from kvscape.report.points import HAS_RUN, has, moving, plain
from kvscape.report.quantity import QUANTITIES, SHORT, level_words

_MEASURES = ("total_bytes", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "perplexity")
_STEP, _HEIGHT = 96, 300
_MOST_LEVELS = 12


@dataclass(frozen=True)
class Axis:
    """One vertical axis of a knob's ``levels``, or of a measure from its ``worst`` to its ``best`` value."""

    name: str
    heading: str
    levels: Sequence[Any] = ()
    worst: float = 0.0
    best: float = 0.0

    @property
    def share(self) -> str:
        """A Vega expression for a point's height on the axis, 0 to 1."""
        if self.levels:
            return f"indexof({json.dumps(list(self.levels))}, datum.{self.name}) / {max(1, len(self.levels) - 1)}"
        span = (self.best - self.worst) or 1.0
        return f"isValid(datum.{self.name}) ? (datum.{self.name} - {self.worst!r}) / {span!r} : null"

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Heights and the words beside them."""
        if not self.levels:
            digits = QUANTITIES[self.name].digits
            heights = (0.0, 0.5, 1.0) if self.best != self.worst else (0.0,)
            return [(height, f"{self.worst + height * (self.best - self.worst):,.{digits}f}") for height in heights]
        last = len(self.levels) - 1
        shown = range(last + 1) if last < _MOST_LEVELS else (0, last // 2, last)
        return [(place / max(1, last), level_words(self.levels[place])) for place in shown]


def parallel(frame: pl.DataFrame) -> Figure:
    """Every point over every knob that varies and every measure; predictions show when few of them are picked."""
    rows = frame.filter(pl.col("status").is_in(HAS_RUN))
    axes = parallel_axes(rows)
    order = [axis.heading for axis in axes]
    x = alt.X("axis:N", sort=order, title=None, axis=alt.Axis(orient="top", domain=False, ticks=False, grid=True))
    chart = linked(alt.layer(_lines(rows, axes, x), *_ticks(axes, x)), _STEP * len(axes), _HEIGHT)
    words = "a line is a design point; among the measures, up is better"
    return figure("parallel", "Every choice and what it costs", words, chart, plain(rows), linked=True)


def parallel_axes(rows: pl.DataFrame) -> list[Axis]:
    """The knobs that vary, then the measures that there are."""
    knobs = [_knob(name, rows) for name in moving(rows)]
    return [*knobs, *(_measure(name, rows) for name in _MEASURES if has(rows, name))]


def _lines(rows: pl.DataFrame, axes: Sequence[Axis], x: alt.X) -> alt.Chart:
    chart = alt.Chart().transform_filter(f"datum.origin === 'measured' || {STANDS_OUT} || (few && {PICKED})")
    for axis in axes:
        chart = chart.transform_calculate(**{axis.heading: axis.share})
    opacity = (
        alt.when("datum.id === hovered || (datum.recommended && !picked)")
        .then(alt.value(1))
        .when(f"!{PICKED}")
        .then(alt.value(0.05))
        .when(f"picked || {STANDS_OUT}")
        .then(alt.value(0.8))
        .otherwise(alt.value(0.25))
    )
    lines: alt.Chart = (
        chart.transform_fold([axis.heading for axis in axes], as_=["axis", "share"])
        .transform_filter("isValid(datum.share)")
        .mark_line(interpolate="monotone")
        .encode(
            x=x,
            y=alt.Y("share:Q", title=None, axis=None, scale=alt.Scale(domain=[-0.04, 1.04], nice=False)),
            color=by_quantization(rows),
            detail="id:N",
            opacity=opacity,
            strokeWidth=alt.when("datum.recommended || datum.id === hovered")
            .then(alt.value(3))
            .otherwise(alt.value(1.3)),
            tooltip=point_tips(rows),
        )
        .add_params(alt.selection_interval(name="brush"))
    )
    return lines


def _ticks(axes: Sequence[Axis], x: alt.X) -> list[alt.Chart]:
    ticks = [{"axis": a.heading, "share": share, "words": words} for a in axes for share, words in a.ticks]
    base = alt.Chart(alt.InlineData(values=ticks)).encode(x=x, y="share:Q", text="words:N")
    place: dict[str, Any] = {"dx": 5, "align": "left", "baseline": "middle", "limit": _STEP - 12}
    return [base.mark_text(**place, style="halo"), base.mark_text(**place, style="faint")]


def _knob(name: str, rows: pl.DataFrame) -> Axis:
    return Axis(name, WORDS[name].split(" (")[0], ordered(name, rows))


def _measure(name: str, rows: pl.DataFrame) -> Axis:
    quantity = QUANTITIES[name]
    values = rows[name].drop_nulls()
    least, most = float(values.min()), float(values.max())  # type: ignore[arg-type]
    worst, best = (most, least) if quantity.best == "min" else (least, most)
    heading = SHORT[name] + (f" ({quantity.unit})" if quantity.unit else "")
    return Axis(name, heading[0].upper() + heading[1:], worst=worst, best=best)
