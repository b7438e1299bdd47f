"""One page that holds a whole study and works without a network: the answer, linked plots, table, environment."""

import html
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

from kvscape.files import write_text
from kvscape.report.answer import recommendation_card
from kvscape.report.figure import Figure
from kvscape.report.page_data import script_json, specifications, study_data
from kvscape.report.page_parts import environment_list, filters, points_table
from kvscape.report.points import point_frame
from kvscape.report.study_figures import CHOICES, EFFECTS, MAP, PREDICTION
from kvscape.results import Record

_WEB = Path(__file__).with_name("web")
_SCRIPTS = ("points.js", "plots.js", "table.js", "page.js")
_LINKED = (MAP, CHOICES, EFFECTS, PREDICTION)
_NOTES = {
    MAP: "Drag over a plot to pick points in all of them; a double click lets go.",
    CHOICES: "Drag along an axis to pick the lines that cross it there.",
    EFFECTS: "A sum of one effect for each choice is fitted to the logarithm of each measure. A choice's share is what "
    "it adds to the explained variance, averaged over all orders of adding them (Shapley). The rest is interaction and "
    "noise.",
    PREDICTION: "What was predicted of a point without it, and what was measured.",
}


def write_page(
    path: Path,
    title: str,
    records: Sequence[Record],
    figures: Mapping[str, Sequence[Figure]],
    front: Sequence[Record] = (),
    recommendation: Mapping[str, Any] | None = None,
) -> None:
    """Write the page; ``figures`` are sections by heading, ``recommendation`` is what ``recommend --json`` prints."""
    write_text(path, page(title, records, figures, front, recommendation))


def page(
    title: str,
    records: Sequence[Record],
    figures: Mapping[str, Sequence[Figure]],
    front: Sequence[Record] = (),
    recommendation: Mapping[str, Any] | None = None,
) -> str:
    """The page as text: styles, scripts, specifications and data are inside it."""
    frame = point_frame(records, front, recommendation["point"] if recommendation else None)
    study = study_data(frame)
    origins = [origin for origin in ("measured", "predicted") if origin in frame["origin"]]
    table = points_table(study["knobs"], study["measures"])
    body = [
        recommendation_card(recommendation, records, frame) if recommendation else "",
        filters(study["knobs"], origins),
        *(_section(heading, figures[heading]) for heading in _LINKED if heading in figures),
        f'<section id="table"><h2>All points</h2>{table}</section>',
        *(_section(heading, group) for heading, group in figures.items() if heading not in _LINKED),
        f'<section id="environment"><h2>Environment</h2>{environment_list(records)}</section>',
    ]
    content = {"study": study, "figures": specifications(figures)}
    return _document(title, _summary(records), "\n".join(body), content)


def _summary(records: Sequence[Record]) -> str:
    counts = {status: sum(record.status == status for record in records) for status in ("ok", "predicted")}
    models = ", ".join(dict.fromkeys(str(record.parameters["model"]) for record in records))
    cpu = next((str(record.environment.get("cpu", "")) for record in records), "")
    told = f" · {counts['predicted']:,} predicted" if counts["predicted"] else ""
    return html.escape(f"{models} · {counts['ok']:,} of {len(records):,} points measured{told} · {cpu}")


def _section(heading: str, figures: Sequence[Figure]) -> str:
    places = "".join(_place(figure) for figure in figures)
    note = f'<p class="note">{html.escape(_NOTES[heading])}</p>' if heading in _NOTES else ""
    name = heading.lower().replace(" ", "-")
    kind = "plots" if heading in _LINKED else "plots fixed"
    return f'<section id="{name}"><h2>{html.escape(heading)}</h2>{note}<div class="{kind}">{places}</div></section>'


def _place(figure: Figure) -> str:
    fluid = " fluid" if figure.linked or "layer" in figure.spec else ""
    words = f"<p>{html.escape(figure.subtitle)}</p>" if figure.subtitle else ""
    return (
        f'<figure id="{html.escape(figure.name)}" class="plot{fluid}">'
        f"<figcaption><h3>{html.escape(figure.title)}</h3>{words}"
        '</figcaption><div class="scroll"><div class="view"></div></div></figure>'
    )


def _document(title: str, summary: str, body: str, content: Mapping[str, Any]) -> str:
    style = (_WEB / "page.css").read_text(encoding="utf-8")
    scripts = "\n".join((_WEB / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header><div><h1>{html.escape(title)}</h1><p>{summary}</p></div>
<button type="button" id="shade" aria-label="Light or dark">◐</button></header>
<main>
{body}
</main>
<script type="application/json" id="content">{script_json(content)}</script>
<script>{_bundle()}</script>
<script>{scripts}</script>
</body>
</html>
"""


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
