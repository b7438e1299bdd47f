"""Measure a whole grid, then ask what each search would have found of it with 24 points.

The share is that of the grid's hypervolume in memory, decode speed and perplexity. What is measured is kept in the
store of ``--out``; ``--fixture`` writes the grid as the tests read it (tests/study/fixtures/grid_NAME.json).

Usage: python benchmarks/search.py [--space FILE.toml] [--out FOLDER] [--points 24] [--seeds 10] [--fixture FILE]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

from kvscape.config import DesignPoint
from kvscape.errors import KvscapeError
from kvscape.results import Record, current_environment
from kvscape.study import SEARCHES, LiveView, ProcessExecutor, SearchSettings, Store, Study, read_space
from kvscape.study.pareto import OBJECTIVES
from kvscape.study.search.replay import replay, share

SPACE = Path(__file__).with_name("search.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--fixture", type=Path)
    arguments = parser.parse_args()
    try:
        grid = measured_grid(arguments.space, arguments.out)
    except KvscapeError as error:
        raise SystemExit(f"error: {error}") from None
    print_shares(grid, arguments.points, arguments.seeds)
    if arguments.fixture:
        write_fixture(grid, arguments.fixture)


def measured_grid(space_file: Path, out: Path) -> dict[DesignPoint, Record]:
    """Every point of a space that could be measured, with its perplexity."""
    space = replace(read_space(space_file), search=SearchSettings())
    with Store(out / "study.sqlite") as store, LiveView() as progress:
        records = Study(space, store, ProcessExecutor(space.timeout_s), progress).run()
    points = {DesignPoint.from_flat(record.parameters): record for record in records}
    return {point: record for point, record in points.items() if set(OBJECTIVES) <= set(record.metrics)}


def print_shares(grid: dict[DesignPoint, Record], points: int, seeds: int) -> None:
    """A line for each search: the least, the median and the largest share over the seeds."""
    print(
        f"{len(grid)} points; share of their hypervolume with {points} of them, {seeds} seeds: least, median, largest"
    )
    for method in SEARCHES[1:]:
        settings = [SearchSettings(method, points, seed=seed) for seed in range(seeds)]
        shares = [share(replay(one, grid, lambda point: memory(grid[point])), grid) for one in settings]
        print(f"{method:<9} {min(shares):.1%} {median(shares):.1%} {max(shares):.1%}")


def memory(record: Record) -> dict[str, float]:
    """What a study knows before it measures."""
    return {"total_bytes": record.predicted["total_bytes"]}


def write_fixture(grid: dict[DesignPoint, Record], path: Path) -> None:
    defaults = DesignPoint().flat()
    points = [
        {
            "parameters": {name: value for name, value in point.flat().items() if value != defaults[name]},
            "metrics": {name: float(f"{record.metrics[name]:.6g}") for name in OBJECTIVES},
        }
        for point, record in grid.items()
    ]
    environment = current_environment()
    facts = {"cpu": environment.cpu, "cores": environment.cores, "kvscape_version": environment.kvscape_version}
    lines = ",\n".join(json.dumps(entry) for entry in points)
    path.write_text(f'{{"environment": {json.dumps(facts)},\n"points": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
