"""``kvscape report``: a study's page and plots, drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from kvscape.cli import options
from kvscape.cli.output import print_json
from kvscape.cli.study_folder import budget, read_study, write_report

Folder = Annotated[Path, typer.Argument(help="The folder that 'kvscape study --out' wrote.", metavar="DIR")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table of points as Markdown.")]


def command(
    context: typer.Context,
    folder: Folder = Path("results"),
    study: options.StudyName = None,
    min_context: options.MinContext = None,
    concurrency: options.Concurrency = None,
    max_memory: options.MaxMemory = None,
    min_decode: options.MinDecode = None,
    max_ttft: options.MaxTtft = None,
    max_perplexity_increase: options.MaxPerplexityIncrease = None,
    baseline: options.Baseline = None,
    objective: options.Objective = "decode",
    markdown: Markdown = False,
    json: options.Json = False,
) -> None:
    """Write a study's page (report.html) and plots from its store."""
    from kvscape.study.recommend import recommend

    content = read_study(folder, study)
    recommendation = recommend(content.known, budget(context.params, content), content.perplexities)
    files = write_report(folder, content, recommendation)
    if json:
        print_json({"study": content.name, "files": files, "recommendation": recommendation.to_json()})
    elif markdown:
        from kvscape.report.tables import cells, markdown_table
        from kvscape.study.pareto import pareto_front

        typer.echo(markdown_table(cells(content.records, pareto_front(content.records))), nl=False)
    else:
        typer.echo("\n".join(map(str, files)))
