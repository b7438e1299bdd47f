"""One look for all figures: colours by quantization, shapes by KV precision, quiet axes."""

from collections.abc import Iterable
from typing import Any

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
INK, QUIET, GRID = "#1f2933", "#52606d", "#e4e7eb"

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
KV_COLOURS = {"f32": "#887744", "f16": "#4477aa", "int8": "#ee8866", "int4": "#aa3377"}
PART_COLOURS = {"Weights": "#4477aa", "KV cache": "#ee8866", "Workspace": "#bbbbbb", "Runtime": "#dddddd"}
KV_SHAPES = {"f16": "circle", "int8": "square", "f32": "triangle-up", "int4": "diamond"}
_SPARE = ("#332288", "#999933", "#117733", "#882255", "#555555")

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "view": {"stroke": None},
    "title": {"fontSize": 15, "fontWeight": 600, "color": INK, "anchor": "start", "offset": 14, "subtitleColor": QUIET,
              "subtitleFontSize": 12, "subtitlePadding": 5},
    "axis": {"labelColor": QUIET, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": 500,
             "gridColor": GRID, "domainColor": "#9aa5b1", "tickColor": "#9aa5b1", "titlePadding": 8,
             "labelOverlap": "greedy"},
    "axisX": {"grid": False, "labelAngle": 0},
    "axisY": {"domain": False, "ticks": False},
    "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": 600, "titleColor": QUIET},
    "legend": {"labelColor": INK, "titleColor": QUIET, "labelFontSize": 11, "titleFontSize": 11, "symbolSize": 90},
}  # fmt: skip


def colours(names: Iterable[str], known: dict[str, str] = QUANTIZATION_COLOURS) -> tuple[list[str], list[str]]:
    """Names in the palette's order and a colour for each; the same name has the same colour in every figure."""
    present = set(names)
    others = sorted(present - set(known))
    domain = [name for name in known if name in present] + others
    return domain, [known[name] if name in known else _SPARE[others.index(name) % len(_SPARE)] for name in domain]
