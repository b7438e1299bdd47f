"""Figures of trust: what was predicted of each measured point beside what was measured."""

import altair as alt
import polars as pl

from kvscape.report.encodings import by_quantization, point_tips, shape_by
from kvscape.report.figure import Figure, figure
from kvscape.report.pareto import PICKED, linked
from kvscape.report.points import has, plain
from kvscape.report.quantity import QUANTITIES

MEASURES = ("total_bytes", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "perplexity")
_SIZE = 300
_BAND = 0.1


def prediction_figures(frame: pl.DataFrame) -> list[Figure]:
    """A square for each measure that has predictions of measured points."""
    measured = frame.filter(pl.col("origin") == "measured")
    return [_square(rows, name) for name in MEASURES if (rows := _both(measured, name)).height > 1]


def _both(measured: pl.DataFrame, name: str) -> pl.DataFrame:
    return measured.drop_nulls([name, f"{name}_predicted"]).filter(pl.col(name) > 0, pl.col(f"{name}_predicted") > 0)


def mean_error(frame: pl.DataFrame, name: str) -> float | None:
    """Mean of |predicted / measured - 1| over the measured points that have a prediction; None where none has."""
    rows = _both(frame.filter(pl.col("origin") == "measured"), name)
    if rows.is_empty():
        return None
    return float((rows[f"{name}_predicted"] / rows[name] - 1).abs().to_numpy().mean())


def inside(frame: pl.DataFrame, name: str) -> tuple[int, int]:
    """How many measured points lie in the interval of their prediction, and how many have one."""
    rows = _both(frame.filter(pl.col("origin") == "measured"), name)
    rows = rows.drop_nulls([f"{name}_predicted_low", f"{name}_predicted_high"])
    within = rows[name].is_between(rows[f"{name}_predicted_low"], rows[f"{name}_predicted_high"])
    return int(within.sum()), rows.height


def _square(rows: pl.DataFrame, name: str) -> Figure:
    quantity, told = QUANTITIES[name], f"{name}_predicted"
    values = [*rows[name].to_list(), *rows[told].to_list()]
    ends = [min(values) * 0.93, max(values) * 1.07]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    axis = alt.Axis(format=",~r", tickCount=5, grid=True)
    x = alt.X(f"{name}:Q", title=f"Measured ({quantity.unit})" if quantity.unit else "Measured", scale=scale, axis=axis)
    y = alt.Y(f"{told}:Q", title="Predicted", scale=scale, axis=axis)
    base = alt.Chart().encode(x=x, y=y)
    marks = base.mark_point(filled=True, style="mark", size=80).encode(
        color=by_quantization(rows, legend=False),
        shape=shape_by(rows, legend=False),
        opacity=alt.when(PICKED).then(alt.value(0.9)).otherwise(alt.value(0.07)),
        tooltip=[*point_tips(rows), alt.Tooltip(f"{told}:Q", title="Predicted", format=f",.{quantity.digits}f")],
    )
    layers = [
        *_diagonal(ends, x, y),
        *_whiskers(base, rows, told),
        marks.add_params(alt.selection_interval(name="brush")),
    ]
    kept = f"datum.origin === 'measured' && datum.{name} > 0 && datum.{told} > 0"
    chart = linked(alt.layer(*layers).transform_filter(kept), _SIZE, _SIZE)
    return figure(f"prediction_{name}", quantity.title, _words(rows, name), chart, plain(rows), linked=True)


def _diagonal(ends: list[float], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Where both are equal, and a band of a tenth around it."""
    line = [{"m": end, "p": end, "low": end * (1 - _BAND), "high": end * (1 + _BAND)} for end in ends]
    base = alt.Chart(alt.InlineData(values=line)).encode(x=alt.X("m:Q"))
    band = base.mark_area(style="band", clip=True).encode(y=alt.Y("low:Q"), y2="high:Q")
    return [band, base.mark_line(style="front").encode(y=alt.Y("p:Q"))]


def _whiskers(base: alt.Chart, rows: pl.DataFrame, told: str) -> list[alt.Chart]:
    if not has(rows, f"{told}_low"):
        return []
    faint = alt.when(PICKED).then(alt.value(0.8)).otherwise(alt.value(0.07))
    rule = base.mark_rule(style="whisker", clip=True)
    return [rule.encode(y=alt.Y(f"{told}_low:Q"), y2=f"{told}_high:Q", opacity=faint)]


def _words(rows: pl.DataFrame, name: str) -> str:
    error = mean_error(rows, name)
    within, all_of = inside(rows, name)
    words = f"mean error {error:.1%} over {rows.height} points; the band is {_BAND:.0%} up and down"
    return words + (f"; {within} of {all_of} inside their interval" if all_of else "")
