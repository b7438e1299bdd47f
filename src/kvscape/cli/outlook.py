"""What ``kvscape study --dry-run`` prints."""

import sys
from typing import TYPE_CHECKING

from kvscape.cli.output import print_json

if TYPE_CHECKING:
    from kvscape.study.outlook import Group, Outlook
    from kvscape.study.space import Space
    from kvscape.study.store import Store


def print_outlook(space: "Space", store: "Store", retry: bool, quiet: bool, json: bool) -> None:
    """Count, judge and estimate; a build that was never made is made, nothing is measured."""
    from kvscape.analysis.free_memory import available_memory_bytes
    from kvscape.study.builds import first_of_each, known_builds
    from kvscape.study.executor import ProcessExecutor
    from kvscape.study.live import LiveView
    from kvscape.study.outlook import look_ahead

    with LiveView(quiet=quiet, transient=True) as progress:
        progress.start(len(first_of_each(space.points)))
        builds = known_builds(space.points, ProcessExecutor(space.timeout_s), progress, store)
    outlook = look_ahead(space, builds, store, available_memory_bytes, retry)
    print_json({"study": space.name, **outlook.to_json()}) if json else _print(outlook)


def _print(outlook: "Outlook") -> None:
    excluded, refused = (sum(group.points for group in groups) for groups in (outlook.excluded, outlook.infeasible))
    lines = [f"{outlook.points} points: {excluded} excluded, {refused} cannot run, {outlook.feasible} can"]
    lines += [_line("excluded", group) for group in outlook.excluded]
    lines += [_line("cannot run", group) for group in outlook.infeasible]
    lines.append(
        f"{outlook.search}: {outlook.to_measure} to measure, {outlook.to_score} perplexities, "
        f"{outlook.measured} points measured already; about {_minutes(outlook.estimated_s)}"
    )
    sys.stdout.write("\n".join(lines) + "\n")


def _line(what: str, group: "Group") -> str:
    example = " ".join(f"{name}={value}" for name, value in group.example.items())
    return f"  {group.points} {what}{', as ' * bool(example)}{example}: {' '.join(group.reason.split())}"


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
