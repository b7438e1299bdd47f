"""The figure of divergence: how many tokens lose how much, one line for each build and KV precision."""

import math
from itertools import pairwise

import altair as alt
import polars as pl

from kvscape.errors import ResultsError
from kvscape.report.encodings import by_quantization, data, ordered
from kvscape.report.figure import Figure, figure
from kvscape.report.frame import plotted
from kvscape.report.theme import LIGHT
from kvscape.results.divergence import KL_EDGES_NATS

_NEEDED = ("quantization", "kl_histogram", "mean_kl_nats")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_PLACES = [math.sqrt(low * high) for low, high in pairwise(KL_EDGES_NATS)]
_MEASURE = ("text", "protocol", "context", "stride", "limit")
_REFERENCE = ("reference_quantization", "reference_kv_dtype")
_NUMBERS = ("mean_kl_nats", "kl_p99_nats", "top1_agreement")
_SHOWN = ("quantization", "kv_dtype", *_NUMBERS)


def kl_histogram(frame: pl.DataFrame, name: str, where: str = "the table") -> Figure:
    """Shares of tokens in bins of equal ratio, each build's mean as a rule; unlike measures stand in panels apart.

    The first bin has all that lost less than its upper edge, those that lost nothing too.
    """
    rows = _with_measure(plotted(frame, _NEEDED, where))
    kinds = ordered("kv_dtype", rows)
    dashes = alt.StrokeDash(
        "kv_dtype:N",
        title="KV precision",
        sort=kinds,
        scale=alt.Scale(domain=kinds, range=_dashes(len(kinds))),
        legend=alt.Legend(symbolType="stroke", symbolStrokeColor=LIGHT.quiet, symbolStrokeWidth=2),
    )
    tooltip = [f"{column}:N" for column in _SHOWN if column in rows.columns]
    base = alt.Chart().encode(color=by_quantization(rows), strokeDash=dashes, detail="record:N", tooltip=tooltip)
    x = alt.X("kl_nats:Q", title="KL divergence of a token (nats)", scale=alt.Scale(type="log"), axis=_decades())
    lines = base.mark_line(interpolate="step", strokeWidth=1.8).encode(
        x=x, y=alt.Y("share:Q", title="Tokens", axis=alt.Axis(format="%"))
    )
    means = base.transform_filter("datum.is_first").mark_rule(strokeWidth=1, opacity=0.7).encode(x="mean_kl_nats:Q")
    panel = alt.layer(lines, means).properties(width=460, height=280)
    chart = panel.facet(column=alt.Column("measure:N", title=None), data=data(_bins(rows, where)))
    return figure(name, "KL divergence from the reference", "tokens by what they lose; rules: the means", chart)


def _decades() -> alt.Axis:
    return alt.Axis(format="~e", values=[10.0**power for power in range(-7, 3)], grid=False)


def _dashes(number: int) -> list[list[int]]:
    return [_DASHES[place % len(_DASHES)] for place in range(number)]


def _with_measure(rows: pl.DataFrame) -> pl.DataFrame:
    """A table of another hand may lack what tells measures apart."""
    missing = [pl.lit("").alias(name) for name in ("kv_dtype", *_MEASURE, *_REFERENCE) if name not in rows.columns]
    rows = rows.with_columns(missing)
    parts = [pl.col(name).cast(pl.String).fill_null("") for name in _MEASURE]
    said = pl.concat_list(parts).list.eval(pl.element().filter(~pl.element().is_in(["", "0"]))).list.join(" · ")
    joined = pl.format("{}, against {} with KV {}", said, *_REFERENCE)
    numbers = [pl.col(name).cast(pl.Float64) for name in _NUMBERS if name in rows.columns]
    return rows.with_columns(*numbers, measure=joined, record=pl.int_range(pl.len()))


def _bins(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    """One row for each bin of each record."""
    counts = [_counts(text, where) for text in rows["kl_histogram"].to_list()]
    shares = [[count / max(1, sum(record)) for count in record] for record in counts]
    places = [_PLACES for _ in shares]
    first = [[place == 0 for place in range(len(_PLACES))] for _ in shares]
    columns = rows.drop("kl_histogram").with_columns(
        pl.Series("share", shares), pl.Series("kl_nats", places), pl.Series("is_first", first)
    )
    return columns.explode("share", "kl_nats", "is_first")


def _counts(text: str, where: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split()]
    except ValueError:
        counts = []
    if len(counts) != len(_PLACES):
        why = f"kl_histogram has no {len(_PLACES)} counts"
        raise ResultsError(f"{where} has a row that cannot be drawn", why, "measure again")
    return counts
