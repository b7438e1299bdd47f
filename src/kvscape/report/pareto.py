"""The maps: memory, speed and quality in pairs; what is on the front stands out, intervals are whiskers."""

from typing import Any

import altair as alt
import polars as pl

from kvscape.report.encodings import by_quantization, point_tips, shape_by
from kvscape.report.figure import ROWS, Chart, Figure, figure
from kvscape.report.points import has, known, plain
from kvscape.report.quantity import QUANTITIES

DECODE = ("total_bytes", "decode_tokens_per_s")
QUALITY = ("total_bytes", "perplexity")
TRADE = ("perplexity", "decode_tokens_per_s")
_NAMES = {DECODE: "pareto_decode", QUALITY: "pareto_perplexity", TRADE: "pareto_trade"}
_WIDTH, _HEIGHT = 820, 380
_MOST_LINES = 4
_WIDE = 4

# Marks that a page has brushed: all of them while ``picked`` is null.
PICKED = "(!picked || picked[datum.id])"
STANDS_OUT = "(datum.front || datum.recommended)"


def maps(frame: pl.DataFrame) -> list[Figure]:
    """The planes that the study has measures for; raise ResultsError when nothing was measured."""
    planes = [DECODE, *((QUALITY, TRADE) if has(frame, "perplexity") else ())]
    return [pareto(frame, *plane) for plane in planes]


def pareto(frame: pl.DataFrame, x: str = DECODE[0], y: str = DECODE[1]) -> Figure:
    """One plane of the map, from ``points.point_frame``; a staircase joins the best of each workload."""
    rows = known(frame, x, y)
    base = alt.Chart().encode(x=_x(x, rows), y=_y(y, rows))
    layers = [_staircase(base, x, y), *_whiskers(rows, base, x, y), _marks(base, rows), *_hints(base)]
    whole = alt.layer(*layers).transform_filter(f"isValid(datum.{x}) && isValid(datum.{y})")
    chart = linked(whole, _WIDTH, _HEIGHT)
    title = f"{QUANTITIES[x].title} and {QUANTITIES[y].title.lower()}"
    return figure(_NAMES.get((x, y), f"pareto_{x}_{y}"), title, _subtitle(rows, x, y), chart, plain(rows), linked=True)


def linked(chart: Any, width: int, height: int) -> Chart:
    """Give a chart the points by name and what a page sets: the marks that are picked, if few, or pointed at."""
    told: Chart = chart.properties(data=ROWS, width=width, height=height).add_params(
        alt.param(name="picked", value=None), alt.param(name="few", value=False), alt.param(name="hovered", value=None)
    )
    return told


def _x(name: str, rows: pl.DataFrame) -> alt.X:
    title, scale = _axis(name, rows, 24)
    return alt.X(f"{name}:Q", title=title, scale=scale, axis=alt.Axis(format=",~r", grid=True, tickCount=8))


def _y(name: str, rows: pl.DataFrame) -> alt.Y:
    title, scale = _axis(name, rows, 12)
    if name != "perplexity":
        scale = alt.Scale(zero=True, nice=True)
    return alt.Y(f"{name}:Q", title=title, scale=scale, axis=alt.Axis(format=",~r"))


def _axis(name: str, rows: pl.DataFrame, padding: int) -> tuple[str, alt.Scale]:
    """Logarithmic where one bad format would press all good perplexities into a line."""
    label, values = QUANTITIES[name].label, rows[name].to_list()
    if name == "perplexity" and max(values) > _WIDE * min(values):
        return f"{label}, logarithmic", alt.Scale(type="log", nice=False, padding=padding)
    return label, alt.Scale(zero=False, nice=True, padding=padding)


def _staircase(base: alt.Chart, x: str, y: str) -> alt.Chart:
    """The best measured ``y`` so far as ``x`` gets worse, for each workload; of many, for the recommended one's."""
    sign = 1 if QUANTITIES[y].best == "min" else -1
    order: list[alt.SortField | dict[str, str]] = [alt.SortField(x), alt.SortField("cost")]
    line: alt.Chart = (
        base.transform_filter("datum.origin === 'measured'")
        .transform_joinaggregate(workloads="distinct(workload)")
        .transform_filter(f"datum.workloads <= {_MOST_LINES} || datum.home")
        .transform_calculate(cost=f"{sign} * datum.{y}")
        .transform_window(best="min(cost)", frame=[None, 0], sort=order, groupby=["workload"])
        .transform_window(before="lag(best)", sort=order, groupby=["workload"])
        .transform_filter("datum.before === null || datum.cost < datum.before")
        .mark_line(interpolate="step-after", style="front")
        .encode(detail="workload:N", order=alt.Order(f"{x}:Q"))
    )
    return line


def _whiskers(rows: pl.DataFrame, base: alt.Chart, x: str, y: str) -> list[alt.Chart]:
    """Intervals of the measured medians, and of the predictions that stand out."""
    drawn = base.transform_filter(f"datum.origin === 'measured' || {STANDS_OUT}").encode(
        opacity=alt.when(f"{PICKED} && {STANDS_OUT}").then(alt.value(0.9)).otherwise(alt.value(0.15))
    )
    found = []
    if has(rows, f"{y}_low"):
        found.append(drawn.mark_rule(style="whisker").encode(y=alt.Y(f"{y}_low:Q"), y2=f"{y}_high:Q"))
    if has(rows, f"{x}_low"):
        found.append(drawn.mark_rule(style="whisker").encode(x=alt.X(f"{x}_low:Q"), x2=f"{x}_high:Q"))
    return found


def _marks(base: alt.Chart, rows: pl.DataFrame) -> alt.Chart:
    opacity = (
        alt.when(f"!{PICKED}").then(alt.value(0.06)).when(STANDS_OUT).then(alt.value(0.95)).otherwise(alt.value(0.3))
    )
    marks: alt.Chart = (
        base.transform_calculate(level="2 * (datum.origin === 'measured') + datum.front")
        .mark_point(filled=True, style="mark")
        .encode(
            color=by_quantization(rows),
            shape=shape_by(rows),
            size=alt.when("datum.origin === 'predicted'").then(alt.value(34)).otherwise(alt.value(110)),
            opacity=opacity,
            order=alt.Order("level:Q"),
            tooltip=point_tips(rows),
        )
        .add_params(alt.selection_interval(name="brush"))
    )
    return marks


def _hints(base: alt.Chart) -> list[alt.Chart]:
    """The recommended point by name, and a ring around the one that the page's table points at."""
    told = base.transform_filter("datum.recommended")
    text: dict[str, Any] = {"text": "recommended", "dx": 16, "align": "left", "fontWeight": 600}
    return [
        told.mark_point(size=420, style="ring"),
        told.mark_text(**text, style="halo"),
        told.mark_text(**text, style="label"),
        base.transform_filter("datum.id === hovered").mark_point(size=260, style="ring"),
    ]


def _subtitle(rows: pl.DataFrame, x: str, y: str) -> str:
    parts = ["a mark is a design point"]
    if "predicted" in rows["origin"]:
        parts.append("a small one is predicted, not measured")
    if rows["front"].any():
        parts.append("faint ones are beaten in memory, speed and quality alike")
    if any(has(rows, f"{name}_low") for name in (x, y)):
        parts.append("whiskers: the interval of a median")
    return "; ".join(parts)
