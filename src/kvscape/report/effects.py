"""Figures of what moves each measure: every knob's share of the variance, and the effect of its values."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from kvscape.report.encodings import WORDS
from kvscape.report.figure import Figure, figure
from kvscape.report.points import ASKED_WORDS, MACHINE, moving
from kvscape.report.quantity import ASKED_PARAMETERS, QUANTITIES, level_words
from kvscape.report.theme import ACCENT
from kvscape.report.variance import Effects, effects

_MEASURES = ("total_bytes", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "perplexity")
_NOT_OF_QUALITY = {
    "context_window_size", "prefill_chunk_size", "max_batch_size", "max_total_sequence_length", "page_size",
    "prefix_cache", "mixed_chunk_size", "prompt_lookup_tokens", "threads", *ASKED_PARAMETERS, ASKED_WORDS, MACHINE,
}  # fmt: skip
REST = "interaction and noise"
_ROW, _WIDTH = 26, 520
_ROOM, _FINE = 0.28, 0.08


def effect_figures(frame: pl.DataFrame) -> list[Figure]:
    """The table of shares, then the effects on each measure; empty where too few points were measured."""
    rows = frame.filter(pl.col("origin") == "measured")
    found = [effect for name in _MEASURES if (effect := effects(rows, name, _knobs(rows, name))) is not None]
    return [shares(found), *(main_effects(effect) for effect in found)] if found else []


def _knobs(rows: pl.DataFrame, measure: str) -> list[str]:
    """Context, chunk, batch and the like cannot change a perplexity: it is measured once for all of them."""
    return [name for name in moving(rows) if measure != "perplexity" or name not in _NOT_OF_QUALITY]


def shares(found: Sequence[Effects]) -> Figure:
    """Knobs down, measures across: the share of the variance of the measure's logarithm."""
    names = list(dict.fromkeys(name for effect in found for name in effect.shares))
    rows = [
        {"knob": _word(name), "measure": QUANTITIES[effect.measure].title, "share": share}
        for effect in found
        for name, share in [*effect.shares.items(), (REST, 1 - effect.explained)]
    ]
    order = [*(_word(name) for name in names), REST]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "measure:N",
            title=None,
            sort=[QUANTITIES[e.measure].title for e in found],
            axis=alt.Axis(orient="top", domain=False, ticks=False),
        ),
        y=alt.Y("knob:N", title=None, sort=order, axis=alt.Axis(labelLimit=180)),
    )
    cell = base.mark_rect(cornerRadius=3, color=ACCENT).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.75]), legend=None),
        tooltip=["knob:N", "measure:N", alt.Tooltip("share:Q", title="Share of variance", format=".1%")],
    )
    text = base.mark_text(style="label").encode(text=alt.Text("share:Q", format=".0%"))
    chart = alt.layer(cell, text).properties(width=_WIDTH, height=_ROW * len(order))
    words = f"between the {found[0].points} measured points; a column adds up to 100 %"
    return figure("variance_shares", "Share of the variance", words, chart)


def main_effects(effect: Effects) -> Figure:
    """Each value of each knob as a rule from the average, all else equal."""
    quantity = QUANTITIES[effect.measure]
    rows: list[dict[str, Any]] = [
        {"value": f"{_word(name)} {level_words(level)}", "change": ratio - 1}
        for name, levels in effect.levels.items()
        for level, ratio in levels
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("value:N", title=None, sort=[row["value"] for row in rows], axis=alt.Axis(labelLimit=220)),
    )
    ends = [min(0.0, *(row["change"] for row in rows)), max(0.0, *(row["change"] for row in rows))]
    room = _ROOM * (ends[1] - ends[0])  # for the numbers beside the dots
    form = "+.0%" if ends[1] - ends[0] > _FINE else "+.1%"
    x = alt.X(
        "change:Q",
        title="Against the average, all else equal",
        axis=alt.Axis(format=form, grid=True, tickCount=5, labelExpr="datum.value < -1 ? '' : datum.label"),
        scale=alt.Scale(domain=[ends[0] - room, ends[1] + room], nice=False),
    )
    rule = base.mark_rule(style="whisker").encode(x=x, x2=alt.datum(0))
    tips = [alt.Tooltip("value:N", title="Choice"), alt.Tooltip("change:Q", title=quantity.title, format="+.1%")]
    dot = base.mark_point(filled=True, size=70, opacity=1, color=ACCENT).encode(x=x, tooltip=tips)
    text = base.mark_text(style="faint", dx=_outwards("-8", "8"), align=_outwards("'right'", "'left'")).encode(
        x=x, text=alt.Text("change:Q", format=form)
    )
    chart = alt.layer(rule, dot, text).properties(width=_WIDTH // 2, height=22 * len(rows))
    words = f"{effect.explained:.0%} of its variance is explained by the sum of these"
    name = effect.measure.removesuffix("_tokens_per_s").removesuffix("_s").removesuffix("_bytes")
    return figure(f"effects_{name}", f"Effects on {_lower(quantity.title)}", words, chart)


def _outwards(left: str, right: str) -> alt.ExprRef:
    """Away from the average: its number stands beside a dot, not on its rule."""
    return alt.ExprRef(f"datum.change < 0 ? {left} : {right}")


def _word(name: str) -> str:
    return WORDS.get(name, name).split(" (")[0]


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]
