"""The page's first part: the point to ship, how far to trust it, what else there is, and how to run it."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from kvscape.report.quantity import QUANTITIES, SHORT, level_words, settings
from kvscape.report.trust import record_of, spread, trust
from kvscape.results import Record

_HIGHLIGHTS = ("decode_tokens_per_s", "prefill_tokens_per_s", "total_bytes", "kv_cache_bytes", "ttft_s", "perplexity")
# Smaller changes than this are not told.
_WORTH_TELLING = 5e-3


def recommendation_card(
    recommendation: Mapping[str, Any], records: Sequence[Record] = (), frame: pl.DataFrame | None = None
) -> str:
    """What ``recommend --json`` prints, as a card; a missed budget says by how much, and which limit to change."""
    met = recommendation["status"] == "met"
    record = record_of(records, recommendation["point"])
    heading = "Recommended" if met else "No point meets the budget; the nearest miss"
    reason = "" if met else f'<p class="reason">{html.escape(recommendation.get("reason", ""))}</p>'
    words = trust(record, frame) if frame is not None else []
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in (*words, *recommendation.get("notes", ())))
    parts = [
        f"<h2>{heading}</h2>{reason}",
        f'<div class="chips">{_chips(recommendation["point"])}</div>',
        f'<div class="numbers">{_numbers(recommendation, record)}</div>',
        f'<div class="trust">{notes}</div>',
        _list("Other directions", _others(recommendation)),
        _list("What the limits cost" if met else "One of these would do", _limits(recommendation)),
        _commands(recommendation.get("commands", ())),
        _elsewhere(recommendation.get("elsewhere", ())),
    ]
    return f'<section id="answer" class="card {"met" if met else "missed"}">{"".join(parts)}</section>'


def _chips(point: Mapping[str, Any]) -> str:
    chosen = {title.split(" (")[0]: value for title, value in settings(point).items()}
    if point.get("subject") == "endpoint":
        told = {
            "Server": point["endpoint"],
            "Clients": point["concurrency"],
            "Requests a second": point["request_rate"],
        }
        chosen = {title: value for title, value in told.items() if value is not None}
    return "".join(
        f"<span>{html.escape(title)} <b>{html.escape(level_words(value))}</b></span>" for title, value in chosen.items()
    )


def _numbers(recommendation: Mapping[str, Any], record: Record | None) -> str:
    metrics, sure = recommendation["metrics"], recommendation.get("confidence") or {}
    bounds = recommendation.get("intervals") or {}
    return "".join(
        _number(name, metrics[name], _range(name, bounds.get(name)) or spread(record, name), sure.get(name))
        for name in _HIGHLIGHTS
        if metrics.get(name) is not None
    )


def _range(name: str, bounds: Sequence[float] | None) -> str:
    return f"{QUANTITIES[name].shown(bounds[0])} to {QUANTITIES[name].shown(bounds[1])}" if bounds else ""


def _number(name: str, value: float, about: str, how: str | None) -> str:
    quantity = QUANTITIES[name]
    unit = f" <small>{quantity.unit}</small>" if quantity.unit else ""
    words = f"predicted {about}".strip() if how == "predicted" else about
    between = f"<i>{html.escape(words)}</i>" if words else ""
    return f"<div><b>{quantity.shown(value)}{unit}</b><span>{html.escape(quantity.title)}</span>{between}</div>"


def _list(title: str, lines: Iterator[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<h3>{title}</h3><ul>{items}</ul>" if items else ""


def _others(recommendation: Mapping[str, Any]) -> Iterator[str]:
    """A line for each other point; one that is the best in several directions names them all."""
    directions: dict[str, list[str]] = {}
    for other in recommendation.get("runners_up", ()):
        changes = [
            f"{html.escape(_title(name))} {change:+.0%}"
            for name, change in other["changes"].items()
            if abs(change) > _WORTH_TELLING
        ]
        how = "" if other["is_measured"] else " (predicted)"
        told = f"{_settings(other['differs'])}{how}: {', '.join(changes) or 'the same figures'}"
        directions.setdefault(told, []).append(html.escape(other["direction"]))
    return (f"{', '.join(names)}: {told}" for told, names in directions.items())


def _limits(recommendation: Mapping[str, Any]) -> Iterator[str]:
    for relaxed in recommendation.get("relaxations", ()):
        gains = ", ".join(
            f"{html.escape(_title(name))} {QUANTITIES[name].shown(after)} instead of "
            f"{QUANTITIES[name].shown(before)} {QUANTITIES[name].unit}"
            for name, (before, after) in relaxed["gains"].items()
        )
        told = f": {gains} ({_settings(relaxed['differs'])})" if gains else ""
        yield f"<code>{html.escape(relaxed['needed'])}</code>{told}"


def _settings(differs: Mapping[str, Any]) -> str:
    return "<b>" + html.escape(", ".join(f"{SHORT.get(n, n)} {level_words(v)}" for n, v in differs.items())) + "</b>"


def _title(name: str) -> str:
    title = QUANTITIES[name].title
    return title[0].lower() + title[1:] if title[1].islower() else title


def _commands(commands: Sequence[str]) -> str:
    text = html.escape("\n".join(commands))
    return f'<div class="commands"><button type="button" class="copy">Copy</button><pre>{text}</pre></div>'


def _elsewhere(translations: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for one in translations:
        lines = [*one["commands"], *(f"# {line}" for line in one["missing"])]
        parts.append(f"<h4>{html.escape(one['engine'])}</h4><pre>{html.escape(chr(10).join(lines))}</pre>")
    title = "The same elsewhere (not measured)"
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>" if parts else ""
