"""A figure: one Vega-Lite specification that gives a PNG, an SVG and a page of its own that works offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import altair as alt
import vl_convert

from kvscape.errors import ResultsError, near_match
from kvscape.files import written_file
from kvscape.report.theme import CONFIG

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart

Rows: TypeAlias = list[dict[str, Any]]

# Altair copies a chart's data at every step, so a chart names its rows and they are put in at the end.
ROWS = alt.NamedData(name="points")
FORMATS = ("png", "svg", "html")
_SCALE = 2.0


@dataclass(frozen=True)
class Figure:
    """``name`` is the stem of its file; ``title`` and ``subtitle`` are what stands above it.

    ``linked`` says that its rows are those of ``points.point_frame``, which a page gives to all such figures at once.
    """

    name: str
    title: str
    spec: dict[str, Any]
    subtitle: str = ""
    linked: bool = False

    @property
    def chart(self) -> Chart:
        """The figure as an Altair object, which a notebook shows."""
        chart: Chart = alt.Chart.from_dict(self.spec)
        return chart

    @cached_property
    def _svg(self) -> str:
        """Drawn once: a PNG is made of it, too."""
        return str(vl_convert.vegalite_to_svg(self.spec))

    def content(self, suffix: str) -> bytes:
        """The figure in one of ``FORMATS``; raise ResultsError for another."""
        if suffix == "png":
            return bytes(vl_convert.svg_to_png(self._svg, scale=_SCALE))
        if suffix == "svg":
            return self._svg.encode()
        if suffix == "html":
            return str(vl_convert.vegalite_to_html(self.spec, bundle=True)).encode()
        raise ResultsError(f"unknown figure format {suffix!r}", "", near_match(suffix, FORMATS))

    def write(self, path: Path) -> Path:
        """Write the format that the path's suffix names."""
        content = self.content(path.suffix.removeprefix(".").lower())
        with written_file(path) as temporary:
            temporary.write_bytes(content)
        return path

    def write_all(self, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
        """Write ``<name>.<format>`` for each format."""
        return [self.write(folder / f"{self.name}.{suffix}") for suffix in formats]


def figure(
    name: str, title: str, subtitle: str, chart: Chart, rows: Rows | None = None, linked: bool = False
) -> Figure:
    """Give a chart its title and the common look; ``rows`` are what its data named ``ROWS`` stand for."""
    titled = chart.properties(title=alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title))
    spec = {**titled.to_dict(validate=False), "config": CONFIG}
    if rows is not None:
        spec["datasets"] = {**spec.get("datasets", {}), ROWS.name: rows}
    return Figure(name, title, spec, subtitle, linked)
