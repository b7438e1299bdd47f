"""``kvscape recommend``: which measured point to ship on a budget."""

from pathlib import Path
from typing import Annotated

import typer

from kvscape.cli import options
from kvscape.cli.output import print_json
from kvscape.cli.recommendation import print_recommendation
from kvscape.cli.study_folder import budget, read_study
from kvscape.errors import NotMetError

Folder = Annotated[Path, typer.Argument(help="The folder that 'kvscape study --out' wrote.", metavar="DIR")]


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
    prompt_tokens: options.PromptTokens = None,
    max_tokens: options.MaxTokens = None,
    num_requests: options.NumRequests = None,
    request_rate: options.RequestRate = None,
    json: options.Json = False,
) -> None:
    """Recommend a point of a study on a budget; exit status 3 when none meets it."""
    from kvscape.study.recommend import recommend

    content = read_study(folder, study)
    recommendation = recommend(content.known, budget(context.params, content), content.perplexities)
    if json:
        print_json(recommendation.to_json())
    else:
        print_recommendation(recommendation)
    if recommendation.status == "not_met":
        raise NotMetError("no point meets the budget", recommendation.reason, recommendation.advice)
