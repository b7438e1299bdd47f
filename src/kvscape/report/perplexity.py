"""The figure of quality: perplexity by quantization and KV precision, with its standard error."""

import altair as alt
import polars as pl

from kvscape.report.encodings import amount, by_quantization, category, data, ordered, panel_width
from kvscape.report.figure import Figure, figure
from kvscape.report.frame import plotted

_NEEDED = ("quantization", "perplexity", "standard_error")
_HEIGHT = 280


def perplexity_vs_quantization(frame: pl.DataFrame, name: str, where: str = "the table") -> Figure:
    """Bars with one standard error up and down; texts and protocols stand in panels of their own.

    Figures of two protocols never compare, so neither do their scales.
    """
    rows = _with_bounds(plotted(frame, _NEEDED, where))
    kinds = ordered("kv_dtype", rows)
    base = alt.Chart().encode(x=category("quantization", rows), xOffset=alt.XOffset("kv_dtype:N", sort=kinds))
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        y=amount("perplexity", "Perplexity (lower is better)"),
        color=by_quantization(rows),
        opacity=alt.Opacity("kv_dtype:N", title="KV precision", sort=kinds, scale=_shades(kinds)),
        tooltip=[f"{column}:N" for column in ("quantization", "kv_dtype", "perplexity", "standard_error", "measure")],
    )
    errors = base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")
    text = base.mark_text(dy=-8, fontSize=10).encode(y="high:Q", text=alt.Text("perplexity:Q", format=".2f"))
    width = panel_width("quantization", rows, 52 * max(2, len(kinds)))
    panel = alt.layer(bars, errors, text).properties(width=width, height=_HEIGHT)
    chart = panel.facet(column=alt.Column("measure:N", title=None), data=data(rows)).resolve_scale(y="independent")
    return figure(name, "Perplexity by quantization", "whiskers: one standard error up and down", chart)


def _shades(kinds: list[str]) -> alt.Scale:
    return alt.Scale(domain=kinds, range=[1.0 - 0.4 * place / max(1, len(kinds) - 1) for place in range(len(kinds))])


def _with_bounds(rows: pl.DataFrame) -> pl.DataFrame:
    for column, value in (("kv_dtype", "f16"), ("text", "text"), ("protocol", ""), ("context", "")):
        if column not in rows.columns:
            rows = rows.with_columns(pl.lit(value).alias(column))
    return rows.with_columns(
        low=pl.col("perplexity") - pl.col("standard_error"),
        high=pl.col("perplexity") + pl.col("standard_error"),
        measure=pl.concat_str(["text", "protocol", pl.col("context").cast(pl.String)], separator=" · "),
    )
