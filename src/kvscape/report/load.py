"""Figures of loads on servers: latency and throughput against the clients, or the requests a second."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from kvscape.errors import ResultsError
from kvscape.report.figure import ROWS, Figure, figure
from kvscape.report.frame import plotted
from kvscape.report.quantity import QUANTITIES

# Each measure with the column of its median.
_LATENCIES = {
    "ttft": ("Time to first token", "ttft_s"),
    "tpot": ("Time per output token", "tpot_s"),
    "itl": ("Between two tokens", "itl_p50_s"),
    "e2e": ("End to end", "e2e_s"),
}
_PERCENTILES = ("p50", "p90", "p95", "p99")
_SHADES = ("#4477aa", "#66aadd", "#ee8866", "#aa3377")
_RATES = ("decode_tokens_per_s", "requests_per_s", "goodput_requests_per_s")
_AXES = {"concurrency": "Clients", "request_rate": "Requests a second, as they come"}
_WIDTH, _HEIGHT = 230, 180


def load_figures(frame: pl.DataFrame, where: str = "the table") -> list[Figure]:
    """``load_latency`` and ``load_throughput``, against each of clients and rate that the table has.

    Raises ResultsError where it has neither, or no measured row.
    """
    known = _with_clients(plotted(frame, ("endpoint", "model", "decode_tokens_per_s", "ttft_s"), where))
    found = [one for axis in _AXES if axis in known.columns for one in _against(known, axis)]
    if not found:
        why = "no row says its clients or its rate"
        raise ResultsError(f"{where} has no rows to plot", why, "measure with --concurrency or --request-rate")
    return found


def _with_clients(frame: pl.DataFrame) -> pl.DataFrame:
    """A load of which neither is said had one client."""
    if not set(_AXES) <= set(frame.columns):
        return frame
    clients, rate = (pl.col(axis).cast(pl.Float64, strict=False) for axis in _AXES)
    return frame.with_columns(
        pl.when(rate.is_null()).then(clients.fill_null(1.0)).otherwise(clients).alias("concurrency")
    )


def _against(frame: pl.DataFrame, axis: str) -> list[Figure]:
    rows = frame.with_columns(pl.col(axis).cast(pl.Float64, strict=False), _series(frame)).drop_nulls(axis).sort(axis)
    return [] if rows.is_empty() else [_latency(rows, axis), _throughput(rows, axis)]


def _series(frame: pl.DataFrame) -> pl.Expr:
    """What tells lines apart: the server, its model, and whatever else the table varies."""
    names = ["endpoint", "model", "lengths", "prompt_tokens", "max_tokens", "endpoint_route", "slo"]
    varied = [name for name in names if name in frame.columns and frame[name].n_unique() > 1] or ["model"]
    parts = [pl.col(name).cast(pl.String).fill_null("-") for name in varied]
    return pl.concat_str(parts, separator=" · ").alias("series")


def _latency(rows: pl.DataFrame, axis: str) -> Figure:
    long = [
        {"series": row["series"], axis: row[axis], "measure": title, "percentile": percentile, "ms": 1e3 * value}
        for row in rows.to_dicts()
        for stem, (title, median) in _LATENCIES.items()
        for percentile in _PERCENTILES
        if (value := row.get(median if percentile == "p50" else f"{stem}_{percentile}_s")) is not None
    ]
    lines = alt.Chart(width=_WIDTH, height=_HEIGHT).encode(
        x=_x(axis),
        y=alt.Y("ms:Q", title="ms", scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color(
            "percentile:N", title="Percentile", sort=list(_PERCENTILES),
            scale=alt.Scale(domain=list(_PERCENTILES), range=list(_SHADES)),
        ),
        tooltip=[alt.Tooltip("series:N"), alt.Tooltip(f"{axis}:Q"), alt.Tooltip("percentile:N"),
                 alt.Tooltip("ms:Q", format=",.1f")],
    )  # fmt: skip
    order = [title for title, _ in _LATENCIES.values()]
    chart = (
        alt.layer(lines.mark_line(), lines.mark_point(filled=True, size=40))
        .facet(row=alt.Row("series:N", title=None), column=alt.Column("measure:N", title=None, sort=order), data=ROWS)
        .resolve_scale(y="independent")
    )
    return figure(f"load_latency_vs_{axis}", "Latency under load", "of each request from when it came", chart, long)


def _throughput(rows: pl.DataFrame, axis: str) -> Figure:
    long = [
        {"series": row["series"], axis: row[axis], "measure": QUANTITIES[name].label, "value": value}
        for row in rows.to_dicts()
        for name in _RATES
        if (value := row.get(name)) is not None
    ]
    lines = alt.Chart(width=_WIDTH, height=_HEIGHT).encode(
        x=_x(axis),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=True, nice=True)),
        color=alt.Color("series:N", title="Server"),
        tooltip=[alt.Tooltip("series:N"), alt.Tooltip(f"{axis}:Q"), alt.Tooltip("value:Q", format=",.2f")],
    )
    order = [QUANTITIES[name].label for name in _RATES]
    chart = (
        alt.layer(lines.mark_line(), lines.mark_point(filled=True, size=40))
        .facet(column=alt.Column("measure:N", title=None, sort=order), data=ROWS)
        .resolve_scale(y="independent")
    )
    return figure(f"load_throughput_vs_{axis}", "Throughput under load", _subtitle(rows), chart, long)


def _x(axis: str) -> alt.X:
    return alt.X(f"{axis}:Q", title=_AXES[axis], scale=alt.Scale(type="log", base=2, nice=False))


def _subtitle(rows: pl.DataFrame) -> str:
    """Promises, where there are some: goodput is what keeps them."""
    promises: Sequence[Any] = rows["slo"].drop_nulls().unique().to_list() if "slo" in rows.columns else []
    return f"goodput keeps {', '.join(map(str, promises))}" if promises else "in the steady part of each run"
