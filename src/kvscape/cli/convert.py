"""``kvscape convert``: a model's file becomes an artefact with weights in one quantization."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import build_config
from kvscape.cli.output import print_facts, print_json
from kvscape.errors import ConfigError, near_match

if TYPE_CHECKING:
    from kvscape.artifact import Artifact


FORMATS = ("kvscape", "mlc")
Format = Annotated[str, typer.Option("--format", help="kvscape, or mlc for MLC-LLM's layout.", show_default=False)]


def command(
    context: typer.Context,
    model_argument: options.ModelArgument = None,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    calibrate: options.Calibrate = None,
    output: Annotated[Path | None, typer.Option("--output", help="Folder to write. [default: in the cache]")] = None,
    format_: Format = "kvscape",
    json: options.Json = False,
) -> None:
    """Convert a model's weights and write the artefact's folder, or one for MLC-LLM."""
    build = build_config(context.params)
    _check_format(format_, output)
    from kvscape.hub import DownloadBar
    from kvscape.llm.build import find_artifact

    with DownloadBar() as progress:
        artifact = find_artifact(build, progress)
    if format_ == "mlc" and output is not None:
        from kvscape.weights.mlc_folder import write_mlc_folder

        write_mlc_folder(artifact, output)
        facts = {**_facts(artifact), "mlc_folder": output}
    else:
        facts = _facts(artifact if output is None else _copied(artifact, output))
    print_json(facts) if json else print_facts(_shown(facts))


def _check_format(name: str, output: Path | None) -> None:
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}", "", near_match(name, FORMATS))
    if name == "mlc" and output is None:
        raise ConfigError("--format mlc writes a folder", "there is no --output", "add --output FOLDER")


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
        "calibration": None if manifest.calibration is None else asdict(manifest.calibration),
        "rounded_tensors": len(rounded),
        "worst_relative_error": max(rounded.values(), default=0.0),
    }


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    on = facts["calibration"]
    return {
        **facts,
        "calibration": f"{on['text']}, {on['tokens']:,} tokens, {on['method']['method']}" if on else "none",
    }
