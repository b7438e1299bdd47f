"""``kvscape convert``: a model's file becomes an artefact with weights in one quantization."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import build_config
from kvscape.cli.output import print_facts, print_json

if TYPE_CHECKING:
    from kvscape.artifact import Artifact


def command(
    context: typer.Context,
    model_argument: options.ModelArgument = None,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    output: Annotated[Path | None, typer.Option("--output", help="Folder to write. [default: in the cache]")] = None,
    json: options.Json = False,
) -> None:
    """Convert a model's weights and write the artefact's folder."""
    build = build_config(context.params)
    from kvscape.hub import DownloadBar
    from kvscape.llm.build import find_artifact

    with DownloadBar() as progress:
        artifact = find_artifact(build, progress)
    facts = _facts(artifact if output is None else _copied(artifact, output))
    print_json(facts) if json else print_facts(facts)


def _copied(artifact: "Artifact", output: Path) -> "Artifact":
    """Copy what was converted, without what one machine's kernels read."""
    import shutil

    from kvscape.artifact import Artifact
    from kvscape.files import written_folder

    with written_folder(output) as temporary:
        ignored = shutil.ignore_patterns("lib", "packed-*", ".lock")
        shutil.copytree(artifact.folder, temporary, ignore=ignored, dirs_exist_ok=True)
    return Artifact(output)


def _facts(artifact: "Artifact") -> dict[str, Any]:
    manifest = artifact.manifest
    rounded = {name: info.relative_error for name, info in manifest.tensors.items() if info.relative_error}
    return {
        "artifact": artifact.folder,
        "quantization": manifest.quantization,
        "embedding_quantization": manifest.embedding_quantization,
        "bits_per_weight": round(manifest.bits_per_weight, 4),
        "weights_bytes": manifest.weights_bytes,
        "source_sha256": manifest.source_sha256,
        "rounded_tensors": len(rounded),
        "worst_relative_error": max(rounded.values(), default=0.0),
    }
