"""The page's parts that are words and numbers: recommendation, table, environment."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from kvscape.report.quantity import PARAMETERS, QUANTITIES
from kvscape.report.tables import cells
from kvscape.results import Record

_HIGHLIGHTS = ("decode_tokens_per_s", "prefill_tokens_per_s", "total_bytes", "kv_cache_bytes", "ttft_s", "perplexity")


def recommendation_card(recommendation: Mapping[str, Any]) -> str:
    """The point to ship, its figures and its commands; a missed budget says by how much."""
    met = recommendation["status"] == "met"
    point, metrics = recommendation["point"], recommendation["metrics"]
    chips = "".join(
        f"<span>{html.escape(_word(title))} <b>{html.escape(_value(point[name]))}</b></span>"
        for name, title in PARAMETERS.items()
        if name in point
    )
    numbers = "".join(_number(name, metrics[name]) for name in _HIGHLIGHTS if metrics.get(name) is not None)
    commands = html.escape("\n".join(recommendation.get("commands", ())))
    reason = f"<p class='reason'>{html.escape(recommendation.get('reason', ''))}</p>" if not met else ""
    heading = "Recommended" if met else "No point meets the budget; the nearest miss"
    return (
        f'<section class="card {"met" if met else "missed"}"><h2>{heading}</h2>{reason}'
        f'<div class="chips">{chips}</div><div class="numbers">{numbers}</div><pre>{commands}</pre></section>'
    )


def _word(title: str) -> str:
    return title.split(" (")[0]


def _value(value: Any) -> str:
    return "off" if value == -1 else f"{value:,}" if isinstance(value, int) else str(value)


def _number(name: str, value: float) -> str:
    quantity = QUANTITIES[name]
    unit = f" <small>{quantity.unit}</small>" if quantity.unit else ""
    return f"<div><b>{quantity.shown(value)}{unit}</b><span>{html.escape(quantity.title)}</span></div>"


def points_table(records: Sequence[Record], front: Sequence[Record]) -> str:
    """Every record in a table that sorts by a click on a heading; the front's rows are marked."""
    table = cells(records, front)
    kinds = ["number" if numeric else "text" for numeric in table.numeric]
    heads = "".join(
        f'<th class="{kind}" tabindex="0" scope="col" aria-sort="none">'
        f"{html.escape(name)}<small>{html.escape(unit)}</small></th>"
        for name, unit, kind in zip(table.headings, table.units, kinds, strict=True)
    )
    rows = "".join(
        f"<tr{' class=front' if marked else ''}>"
        + "".join(f'<td class="{kind}">{html.escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row, marked in zip(table.explained, table.marked, strict=True)
    )
    note = "<p class='note'>Bold rows are on the Pareto front.</p>" if any(table.marked) else ""
    head, body = f"<thead><tr>{heads}</tr></thead>", f"<tbody>{rows}</tbody>"
    return f'{note}<div class="scroll"><table class="sortable">{head}{body}</table></div>'


def environment_list(records: Sequence[Record]) -> str:
    """What was measured with: machine, versions, and every kernel that ran."""
    facts = dict(next((record.environment for record in records), {}))
    packages = facts.pop("packages", {})
    rows = {**facts, **packages}
    if "memory_bytes" in rows:
        rows["memory"] = f"{rows.pop('memory_bytes') / 2**30:.1f} GiB"
    kernels = sorted({kernel for record in records for kernel in record.kernels})
    if kernels:
        rows["kernels"] = kernels
    return "<dl>" + "".join(f"<dt>{html.escape(str(k))}</dt><dd>{_fact(v)}</dd>" for k, v in rows.items()) + "</dl>"


def _fact(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return html.escape(text)
