"""One look for all figures: colours by quantization, shapes by KV precision, quiet axes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

# Tol's bright and muted palettes: told apart with every common colour blindness.
QUANTIZATION_COLOURS = {
    "auto": "#4477aa",
    "q4af16_1": "#66aadd",
    "q4f16_1": "#ee6677",
    "q4f32_1": "#cc3311",
    "q8f16_1": "#228833",
    "q8f32_1": "#44aa77",
    "q3f16_1": "#aa3377",
    "q0f16": "#ccaa22",
    "q0f32": "#887744",
}
KV_COLOURS = {"f32": "#887744", "f16": "#4477aa", "fp8": "#228833", "int8": "#ee8866", "int4": "#aa3377"}
PART_COLOURS = {"Weights": "#4477aa", "KV cache": "#ee8866", "Workspace": "#bbbbbb", "Runtime": "#dddddd"}
KV_SHAPES = {"f16": "circle", "int8": "square", "f32": "triangle-up", "int4": "diamond", "fp8": "cross"}
SUBJECT_SHAPES = {"kvscape": "circle", "llamacpp": "square", "transformers": "triangle-up", "endpoint": "diamond"}
_SPARE = ("#332288", "#999933", "#117733", "#882255", "#555555")


@dataclass(frozen=True)
class Shades:
    """The quiet colours of a figure: what is written, drawn and left empty."""

    ink: str
    quiet: str
    grid: str
    line: str
    paper: str


ACCENT = "#4477aa"
LIGHT = Shades("#1f2933", "#52606d", "#e4e7eb", "#9aa5b1", "white")
# The page's own variables, so that its style alone decides between light, dark and print.
PAGE = Shades("var(--ink)", "var(--quiet)", "var(--line)", "var(--edge)", "var(--card)")


def config(shades: Shades, background: str) -> dict[str, Any]:
    """Vega-Lite's configuration; charts name the styles "label", "halo", "ring", "front" and "whisker"."""
    ink, quiet = shades.ink, shades.quiet
    return {
        "background": background,
        "font": FONT,
        "view": {"stroke": None},
        "title": {"fontSize": 15, "fontWeight": 600, "color": ink, "anchor": "start", "offset": 14,
                  "subtitleColor": quiet, "subtitleFontSize": 12, "subtitlePadding": 5},
        "axis": {"labelColor": quiet, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12,
                 "titleFontWeight": 500, "gridColor": shades.grid, "domainColor": shades.line,
                 "tickColor": shades.line, "titlePadding": 8, "labelOverlap": "greedy"},
        "axisX": {"grid": False, "labelAngle": 0},
        "axisY": {"domain": False, "ticks": False},
        "header": {"labelColor": ink, "labelFontSize": 12, "labelFontWeight": 600, "titleColor": quiet},
        "legend": {"labelColor": ink, "titleColor": quiet, "labelFontSize": 11, "titleFontSize": 11,
                   "symbolSize": 90, "symbolStrokeColor": shades.paper},
        "style": {
            "label": {"color": ink, "fontSize": 11},
            "faint": {"color": quiet, "fontSize": 10},
            "halo": {"stroke": shades.paper, "strokeWidth": 4, "fontSize": 11},
            "ring": {"color": ink, "strokeWidth": 1.8},
            "front": {"color": quiet, "strokeWidth": 1.4},
            "whisker": {"color": quiet, "strokeWidth": 1.2},
            "mark": {"stroke": shades.paper, "strokeWidth": 0.8},
            "band": {"color": shades.line, "opacity": 0.22},
        },
    }  # fmt: skip


CONFIG = config(LIGHT, "white")
PAGE_CONFIG = config(PAGE, "transparent")


def colours(names: Iterable[str], known: dict[str, str] = QUANTIZATION_COLOURS) -> tuple[list[str], list[str]]:
    """Names in the palette's order and a colour for each; the same name has the same colour in every figure."""
    present = set(names)
    others = sorted(present - set(known))
    domain = [name for name in known if name in present] + others
    return domain, [known[name] if name in known else _SPARE[others.index(name) % len(_SPARE)] for name in domain]
