"""``kvscape study``: measure the points of a space, then say what to ship."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options, study_space
from kvscape.cli.chosen import Flags
from kvscape.cli.drawing import PAGES, check_packages
from kvscape.cli.outlook import print_outlook
from kvscape.cli.output import console, print_facts, print_json
from kvscape.cli.recommendation import print_recommendation
from kvscape.cli.study_folder import STORE, StudyContent, budget, check_budget, study_content, write_report
from kvscape.cli.study_space import chosen_space
from kvscape.errors import ResultsError

if TYPE_CHECKING:
    from kvscape.study.progress import StudyProgress
    from kvscape.study.recommend import Recommendation
    from kvscape.study.space import Space
    from kvscape.study.store import Store

Out = Annotated[Path, typer.Option("--out", help="Folder of the store and of what is written from it.")]
Retry = Annotated[bool, typer.Option("--retry", help="Measure again what failed before.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Count the points, say which cannot run and how long it takes; measure nothing."),
]
Merge = Annotated[
    list[Path] | None, typer.Option("--merge", help="Take over another study.sqlite, as of another machine; repeated.")
]
Predict = Annotated[
    bool, typer.Option("--predict", help="Predict what is not measured, too, for the page and the recommendation.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Measure on the nodes of a Ray cluster.", metavar="HOST:PORT", show_default=False),
]
Report = Annotated[
    bool,
    typer.Option("--report/--no-report", help="Write the page, and recommend a point; 'kvscape report' does it later."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show only what goes wrong.")]
Log = Annotated[Path | None, typer.Option("--log", help="File that gets a line for each event.")]


def command(
    context: typer.Context,
    file: study_space.SpaceFile = None,
    out: Out = Path("results"),
    axis: study_space.Axis = None,
    ppl: study_space.Ppl = None,
    study: study_space.Name = None,
    search: study_space.Method = None,
    points: study_space.Points = None,
    budget_minutes: study_space.BudgetMinutes = None,
    seed: study_space.Seed = None,
    repeats: study_space.Repeats = None,
    precision: options.Precision = None,
    dry_run: DryRun = False,
    merge: Merge = None,
    retry: Retry = False,
    ray: Ray = None,
    quiet: Quiet = False,
    log: Log = None,
    predict: Predict = False,
    report: Report = True,
    min_context: options.MinContext = None,
    concurrency: options.Concurrency = None,
    max_memory: options.MaxMemory = None,
    min_decode: options.MinDecode = None,
    max_ttft: options.MaxTtft = None,
    max_perplexity_increase: options.MaxPerplexityIncrease = None,
    baseline: options.Baseline = None,
    objective: options.Objective = "decode",
    json: options.Json = False,
) -> None:
    """Measure the design points of a study, and recommend one. What is measured already is kept."""
    if merge:
        merged = _merge(out, merge)
        if file is None and not axis:
            print_json(merged) if json else print_facts(merged)
            return
    space = chosen_space(context.params)
    check_budget(context.params, space)
    if report and not dry_run:
        check_packages("page", PAGES, "add --no-report, and make it elsewhere by 'kvscape report'")
    if dry_run:
        from kvscape.study.store import Store

        with Store(out / STORE) as store:
            print_outlook(space, store, retry, quiet, json)
    else:
        _measure(space, context.params)


def _merge(out: Path, others: list[Path]) -> dict[str, Any]:
    from kvscape.study.merge import check_store
    from kvscape.study.store import Store

    for path in others:  # before a store is made
        check_store(path)
    with Store(out / STORE) as store:
        merged = [store.merge(path) for path in others]
        new = {name: sum(getattr(one, name) for one in merged) for name in ("records", "perplexities", "points")}
        return {**new, "studies": store.studies()}


def _measure(space: "Space", flags: Flags) -> None:
    from kvscape.study.recommend import recommend

    out = flags["out"]
    study, files = _run(space, flags)
    _check_measured(study, space)
    if not flags["report"]:  # on a host that measures, and has no Polars and no Altair
        _print_measured(study, space, files, flags["json"])
        return
    recommendation = recommend(study.known, budget(dict(flags), study), study.perplexities)
    files += write_report(out, study, recommendation)
    if flags["json"]:
        print_json(_facts(study, space, recommendation, files))
    else:
        _print(study, recommendation, files)


def _run(space: "Space", flags: Flags) -> tuple[StudyContent, list[Path]]:
    """Finish the study and write its tables."""
    from kvscape.study.export import export_study
    from kvscape.study.live import LiveView
    from kvscape.study.predict_space import predict_space
    from kvscape.study.store import Store

    out = flags["out"]
    with Store(out / STORE) as store:
        with LiveView(quiet=flags["quiet"], log=flags["log"]) as progress:
            _work(space, store, progress, flags)
        predicted = [predict_space(space, store, flags["quiet"])] if flags["predict"] else []
        return study_content(store, space.name), [*export_study(store, space.name, out), *predicted]


def _work(space: "Space", store: "Store", progress: "StudyProgress", flags: Flags) -> None:
    """Measure here, or on the nodes of a cluster."""
    from kvscape.study.executor import ProcessExecutor
    from kvscape.study.run import Study

    if flags["ray"] is None:
        Study(space, store, ProcessExecutor(space.timeout_s), progress, flags["retry"]).run()
        return
    from kvscape.study.node import Means
    from kvscape.study.ray_cluster import ray_cluster

    with ray_cluster(flags["ray"], Means(space.timeout_s), progress.wait) as cluster:
        Study(space, store, cluster.builder, progress, flags["retry"], slots=cluster.slots).run()


def _check_measured(study: StudyContent, space: "Space") -> None:
    if any(record.status == "ok" for record in study.records):
        return
    what, do = "no point could be measured", "correct it and run the study again with --retry"
    if study.records:
        raise ResultsError(what, study.records[0].reason, do)
    if not space.points:
        raise ResultsError(what, f"all are excluded: {space.excluded[0].reason}", "correct the study's file")
    raise ResultsError(what, "there was no time for any", "give a larger --budget-minutes")


def _print_measured(study: StudyContent, space: "Space", files: list[Path], json: bool) -> None:
    measured = sum(record.status == "ok" for record in study.records)
    if json:
        print_json(_facts(study, space, None, files))
    else:
        print_facts({"study": study.name, "measured": f"{measured} of {len(study.records)} points", "files": files})


def _facts(
    study: StudyContent, space: "Space", recommendation: "Recommendation | None", files: list[Path]
) -> dict[str, Any]:
    return {
        "study": study.name,
        "points": [record.to_json() for record in study.records],
        "perplexities": [record.to_json() for record in study.perplexities],
        "excluded": [{"point": entry.point.flat(), "reason": entry.reason} for entry in space.excluded],
        "recommendation": recommendation and recommendation.to_json(),
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
