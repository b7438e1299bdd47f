"""``kvscape study``: measure every point of a space, then say what to ship."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.output import console, print_json
from kvscape.cli.recommendation import print_recommendation
from kvscape.cli.study_folder import STORE, StudyContent, budget, study_content, write_report
from kvscape.errors import ResultsError

if TYPE_CHECKING:
    from kvscape.study.recommend import Recommendation
    from kvscape.study.space import Space

SpaceFile = Annotated[Path, typer.Argument(help="The study's TOML file.", metavar="FILE.toml", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder of the store and of what is written from it.")]
Retry = Annotated[bool, typer.Option("--retry", help="Measure again what failed before.")]


def command(
    context: typer.Context,
    file: SpaceFile,
    out: Out = Path("results"),
    retry: Retry = False,
    max_memory: options.MaxMemory = None,
    min_decode: options.MinDecode = None,
    max_perplexity_increase: options.MaxPerplexityIncrease = None,
    baseline: options.Baseline = None,
    json: options.Json = False,
) -> None:
    """Measure every design point of a study, and recommend one. What is measured already is kept."""
    from kvscape.study.recommend import recommend
    from kvscape.study.space import read_space

    space = read_space(file)
    study, files = _run(space, out, retry)
    _check_measured(study)
    recommendation = recommend(study.known, budget(context.params, study), study.perplexities)
    files += write_report(out, study, recommendation)
    if json:
        print_json(_facts(study, space, recommendation, files))
    else:
        _print(study, recommendation, files)


def _run(space: "Space", out: Path, retry: bool) -> tuple[StudyContent, list[Path]]:
    """Finish the study and write its tables."""
    from kvscape.study.executor import ProcessExecutor
    from kvscape.study.export import export_study
    from kvscape.study.live import LiveView
    from kvscape.study.run import Study
    from kvscape.study.store import Store

    with Store(out / STORE) as store:
        with LiveView() as progress:
            Study(space, store, ProcessExecutor(space.timeout_s), progress, retry).run()
        return study_content(store, space.name), export_study(store, space.name, out)


def _check_measured(study: StudyContent) -> None:
    if not any(record.status == "ok" for record in study.records):
        first = study.records[0].reason if study.records else "it has no points"
        raise ResultsError("no point could be measured", first, "correct it and run the study again with --retry")


def _facts(study: StudyContent, space: "Space", recommendation: "Recommendation", files: list[Path]) -> dict[str, Any]:
    return {
        "study": study.name,
        "points": [record.to_json() for record in study.records],
        "perplexities": [record.to_json() for record in study.perplexities],
        "excluded": [{"point": entry.point.flat(), "reason": entry.reason} for entry in space.excluded],
        "recommendation": recommendation.to_json(),
        "files": files,
    }


def _print(study: StudyContent, recommendation: "Recommendation", files: list[Path]) -> None:
    from kvscape.report.tables import cells, terminal_table
    from kvscape.study.pareto import pareto_front

    out = console()
    out.print(terminal_table(cells(study.records, pareto_front(study.records))))
    out.print("\n* on the Pareto front: no other point is better in memory, decode speed and perplexity at once\n")
    print_recommendation(recommendation)
    page = next(path for path in files if path.suffix == ".html")
    sys.stdout.write(f"\n{len(files)} files in {page.parent}; open {page}\n")
