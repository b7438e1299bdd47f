"""One page that holds a whole study and works without a network: recommendation, map, plots, table, environment."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from kvscape.files import write_text
from kvscape.report.figure import Figure
from kvscape.report.page_parts import environment_list, points_table, recommendation_card
from kvscape.results import Record

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


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
    first, *rest = figures.items()
    sections = [
        recommendation_card(recommendation) if recommendation else "",
        _section(*first),
        f"<section><h2>All points</h2>{points_table(records, front)}</section>",
        *(_section(heading, group) for heading, group in rest),
        f"<section><h2>Environment</h2>{environment_list(records)}</section>",
    ]
    return _document(title, _summary(records), "\n".join(sections), [f for group in figures.values() for f in group])


def _summary(records: Sequence[Record]) -> str:
    measured = sum(record.status == "ok" for record in records)
    models = ", ".join(dict.fromkeys(str(record.parameters["model"]) for record in records))
    cpu = next((str(record.environment.get("cpu", "")) for record in records), "")
    return html.escape(f"{models} · {measured} of {len(records)} points measured · {cpu}")


def _section(heading: str, figures: Sequence[Figure]) -> str:
    places = "".join(f'<figure id="{html.escape(figure.name)}" class="plot"></figure>' for figure in figures)
    return f'<section><h2>{html.escape(heading)}</h2><div class="plots">{places}</div></section>'


def _document(title: str, summary: str, body: str, figures: Sequence[Figure]) -> str:
    specs = json.dumps({figure.name: figure.spec for figure in figures}, allow_nan=False).replace("</", "<\\/")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1><p>{summary}</p></header>
<main>
{body}
</main>
<script type="application/json" id="specs">{specs}</script>
<script>{_bundle()}</script>
<script>{_SCRIPT.read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
