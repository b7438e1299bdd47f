"""The page's parts that are words and numbers: filters, table, environment."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from kvscape.results import Record

# Unit squares, as Vega's symbols are: circle, square, triangle-up, diamond.
_GLYPHS = {
    "circle": '<circle cx="6" cy="6" r="4.5"/>',
    "square": '<rect x="2" y="2" width="8" height="8"/>',
    "triangle-up": '<path d="M6 1.5 11 10.5H1z"/>',
    "diamond": '<path d="M6 .8 10 6 6 11.2 2 6z"/>',
}


def filters(knobs: Sequence[Mapping[str, Any]], origins: Sequence[str]) -> str:
    """A group of choices for each knob; their colours and shapes are the maps' legend."""
    groups = [_choices(knob["name"], knob["title"], knob["levels"]) for knob in knobs if knob["filter"] == "choice"]
    groups += [_range(knob) for knob in knobs if knob["filter"] == "range"]
    if len(origins) > 1:
        levels = [{"value": origin, "words": origin} for origin in origins]
        groups.append(_choices("origin", "Numbers", levels))
    front = [{"value": True, "words": "front only"}]
    return (
        '<details class="filters" id="filters" open><summary>Filter <output id="count" aria-live="polite"></output>'
        f"</summary><form>{''.join(groups)}{_choices('front', 'Pareto', front)}"
        '<button type="reset">Show all</button></form></details>'
    )


def _choices(name: str, title: str, levels: Sequence[Mapping[str, Any]]) -> str:
    shown = "".join(
        f'<label><input type="checkbox" name="{html.escape(name)}" value="{place}">'
        f"<span>{_glyph(level)}{html.escape(str(level['words']))}</span></label>"
        for place, level in enumerate(levels)
    )
    legend = " legend" if any("colour" in level or "shape" in level for level in levels) else ""
    return f'<fieldset class="choice{legend}"><legend>{html.escape(title)}</legend>{shown}</fieldset>'


def _glyph(level: Mapping[str, Any]) -> str:
    if "colour" not in level and "shape" not in level:
        return ""
    drawn = _GLYPHS.get(str(level.get("shape", "circle")), _GLYPHS["circle"])
    colour = html.escape(str(level.get("colour", "currentColor")))
    return f'<svg viewBox="0 0 12 12" aria-hidden="true" fill="{colour}">{drawn}</svg>'


def _range(knob: Mapping[str, Any]) -> str:
    name, levels = html.escape(knob["name"]), [level["value"] for level in knob["levels"] if level["value"] != -1]
    ends = "".join(
        f'<label>{word} <input type="number" name="{name}" data-end="{end}" placeholder="{value}"></label>'
        for word, end, value in (("from", "least", min(levels)), ("to", "most", max(levels)))
    )
    return f'<fieldset class="range"><legend>{html.escape(knob["title"])}</legend>{ends}</fieldset>'


def points_table(knobs: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]]) -> str:
    """The table's frame; the page's script fills it, so that thousands of points stay light."""
    columns = [(knob["name"], knob["short"], "", "number" if knob["numeric"] else "text") for knob in knobs]
    columns += [(measure["name"], measure["short"], measure["unit"], "number") for measure in measures]
    columns.append(("status", "status", "", "text"))
    heads = "".join(
        f'<th class="{kind}" scope="col" aria-sort="none"><button type="button" data-sort="{html.escape(name)}">'
        f"{html.escape(short)}<small>{html.escape(unit)}</small></button></th>"
        for name, short, unit, kind in columns
    )
    return (
        '<p class="note">Bold rows are on the Pareto front. A click on a heading sorts.</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table of points"><table id="points">'
        f"<thead><tr>{heads}</tr></thead><tbody></tbody></table></div>"
        '<button type="button" id="more" hidden></button><noscript>The table needs JavaScript; '
        "<code>kvscape report --markdown</code> prints it.</noscript>"
    )


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
