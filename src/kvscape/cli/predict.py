"""``kvscape predict``: what is to be expected of every point of a space, measured or not."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.output import print_json
from kvscape.cli.study_folder import STORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvscape.results import Record
    from kvscape.study.space import Space

SpaceFile = Annotated[Path, typer.Argument(help="The study's TOML file.", metavar="FILE.toml", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder of the study's store; the predictions go there.")]

_SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")


def command(file: SpaceFile, out: Out = Path("results"), json: options.Json = False) -> None:
    """Predict memory, speed and perplexity of every point of a study from those that were measured."""
    from kvscape.study.predict_space import predict_space
    from kvscape.study.predictions import read_predictions
    from kvscape.study.space import read_space
    from kvscape.study.store import Store

    space = read_space(file)
    with Store(out / STORE) as store:
        measured = store.study_records(space.name)
        path = predict_space(space, store)
    predictions = read_predictions(out, space.name)
    facts = _facts(space, measured, predictions, path)
    print_json({**facts, "points": [record.to_json() for record in predictions]}) if json else _print(facts)


def _facts(space: "Space", measured: "Sequence[Record]", predictions: "Sequence[Record]", path: Path) -> dict[str, Any]:
    from kvscape.study.predictions import joined

    beside = [record for record in joined(measured, predictions)[0] if record.predicted_intervals]
    return {
        "study": space.name,
        "measured": sum(record.status == "ok" for record in measured),
        "predicted": sum(record.status == "predicted" for record in predictions),
        "infeasible": sum(record.status == "infeasible" for record in predictions),
        "mean_errors": {name: _mean_error(beside, name) for name in _SPEEDS} if beside else {},
        "file": path,
    }


def _mean_error(records: "Sequence[Record]", name: str) -> float:
    """Of measured points, each predicted from all the others."""
    return sum(abs(record.predicted[name] / record.metrics[name] - 1) for record in records) / len(records)


def _print(facts: dict[str, Any]) -> None:
    sys.stdout.write(
        f"{facts['predicted']:,} points predicted from {facts['measured']} measured ones, "
        f"{facts['infeasible']:,} cannot run here: {facts['file']}\n"
    )
    for name, error in facts["mean_errors"].items():
        sys.stdout.write(f"{name}: {error:.1%} mean error, each measured point predicted from the others\n")
