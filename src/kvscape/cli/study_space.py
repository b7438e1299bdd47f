"""A study's space and search from the flags of ``kvscape study``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli.chosen import Flags
from kvscape.config import DesignPoint, parse_share
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.study.search import SearchSettings
    from kvscape.study.space import Space

_SPACE, _SEARCH = "Space", "Search"
SpaceFile = Annotated[
    Path | None, typer.Argument(help="The study's TOML file.", metavar="FILE.toml", show_default=False)
]
Axis = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        help="Instead of a file: NAME=VALUES, e.g. kv_dtype=f16,int8 or context_window_size=1024:4096:*2; repeated.",
        rich_help_panel=_SPACE,
    ),
]
Ppl = Annotated[
    str | None,
    typer.Option("--ppl", help='Perplexity beside --axis, e.g. "context=512,limit=16".', rich_help_panel=_SPACE),
]
Name = Annotated[
    str | None,
    typer.Option("--study", help="The study's name in its store. [default: the file's]", rich_help_panel=_SPACE),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--search",
        help="grid, random, sobol, tpe, nsga2 or adaptive. [default: the file's, or grid]",
        rich_help_panel=_SEARCH,
    ),
]
Points = Annotated[
    int | None,
    typer.Option("--points", help="Points that a search measures. [default: 24]", rich_help_panel=_SEARCH),
]
BudgetMinutes = Annotated[
    float | None, typer.Option("--budget-minutes", help="Begin nothing that would end later.", rich_help_panel=_SEARCH)
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of the order and the search. [default: 0]", rich_help_panel=_SEARCH)
]
Repeats = Annotated[
    int | None,
    typer.Option("--repeats", help="Measure each point so often, spread over the study.", rich_help_panel=_SEARCH),
]

_SETTINGS = {
    "search": "method",
    "points": "points",
    "budget_minutes": "budget_minutes",
    "seed": "seed",
    "repeats": "repeats",
}


def chosen_space(flags: Flags) -> "Space":
    """Read the file or the axes; flags of the search win over the file's. Raises ConfigError."""
    space = _space(flags)
    if flags.get("precision") is not None:
        share = parse_share(flags["precision"])
        space = replace(space, points=tuple(dict.fromkeys(_known_to(point, share) for point in space.points)))
    return replace(space, search=_search(space.search, flags))


def _known_to(point: DesignPoint, share: float) -> DesignPoint:
    return replace(point, workload=replace(point.workload, precision=share))


def _space(flags: Flags) -> "Space":
    from kvscape.hub import DownloadBar
    from kvscape.study.space import check_name, read_space, space_of_axes

    file, axes, ppl = flags["file"], flags["axis"], flags["ppl"]
    if (file is None) == (not axes):
        why = "both say what the space is" if axes else "nothing says what to measure"
        raise ConfigError("FILE.toml and --axis", why, "give one of them, see 'kvscape study --help'")
    if ppl is not None and not axes:
        raise ConfigError("--ppl with FILE.toml", "the file says it", "write a table [ppl]")
    with DownloadBar() as progress:
        if file is None:
            return space_of_axes(axes, flags["study"] or "study", None if ppl is None else _table(ppl), progress)
        space = read_space(file, progress)
    return replace(space, name=check_name(flags["study"] or space.name))


def _table(text: str) -> dict[str, Any]:
    """``context=512,limit=16`` as a table of TOML would have it."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    return {name.strip(): int(value) if value.strip().isdigit() else value.strip() for name, _, value in pairs}


def _search(settings: "SearchSettings", flags: Mapping[str, Any]) -> "SearchSettings":
    given = {name: flags[flag] for flag, name in _SETTINGS.items() if flags[flag] is not None}
    return replace(settings, **given)
