"""``kvscape compile``: an artefact gets its library, for this machine or for GPUs that others have."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import Flags, build_config, subject_name
from kvscape.cli.loading import library_metadata
from kvscape.cli.output import print_facts, print_json
from kvscape.config import DesignPoint, EngineConfig, KVPrecision, cuda_architecture, parse_overrides
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.config import BuildConfig
    from kvscape.hub import Progress
    from kvscape.llm import Built

Prepare = Callable[["BuildConfig", "Progress"], dict[str, Any]]

Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda:0, or cuda:sm_90 for such GPUs, which need not be here. [default: cpu]"),
]
ModelLib = Annotated[
    Path | None, typer.Option("--model-lib", help="Keep this library in the cache, as if it was compiled here.")
]
Output = Annotated[Path | None, typer.Option("--output", help="Library to write: .tar, or .so with a C++ compiler.")]
DebugDump = Annotated[Path | None, typer.Option("--debug-dump", help="Folder that gets the module after each pass.")]


def command(
    context: typer.Context,
    model_argument: options.ModelArgument = None,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    calibrate: options.Calibrate = None,
    activation: options.Activation = None,
    device: Device = None,
    model_lib: ModelLib = None,
    kv_dtype: options.KvDtype = None,
    overrides: options.Overrides = "",
    jit: options.Jit = "on",
    subject: options.Subject = None,
    output: Output = None,
    debug_dump: DebugDump = None,
    json: options.Json = False,
) -> None:
    """Convert a model where that is not done, and compile it; --subject prepares a peer's file."""
    build, defaults = _chosen(context.params), parse_overrides(overrides)
    from kvscape.subjects import find_local

    if prepare := find_local(subject_name(context.params)).prepare:
        _print(_prepared(prepare, build, defaults, output or debug_dump or model_lib), json)
        return
    precision = KVPrecision.parse(kv_dtype or EngineConfig.kv_dtype).name
    built = _build(build, jit, model_lib, defaults, precision)
    library = built.library
    if output is not None or debug_dump is not None:
        library = _written(built, build, defaults, precision, output or built.library, debug_dump)
    _print(_facts(built, library), json)


def _print(facts: dict[str, Any], json: bool) -> None:
    print_json(facts) if json else print_facts({k: v for k, v in facts.items() if not isinstance(v, dict)})


def _prepared(prepare: Prepare, build: "BuildConfig", overrides: dict[str, int], place: Path | None) -> dict[str, Any]:
    """What another subject makes instead of a library."""
    if overrides or place is not None:
        what = "--overrides, --output, --debug-dump and --model-lib"
        raise ConfigError(what, "this subject has no library", "leave them out")
    from kvscape.hub import DownloadBar

    with DownloadBar() as progress:
        return prepare(build, progress)


def _chosen(flags: Flags) -> "BuildConfig":
    """The build that flags say; its device may be an architecture, where kvscape itself compiles."""
    device, is_own = flags["device"], subject_name(flags) == DesignPoint().subject
    if device is None or cuda_architecture(device) is None or not is_own:
        return build_config(flags)
    return replace(build_config({**flags, "device": None}), device=device)


def _build(build: "BuildConfig", jit: str, model_lib: Path | None, overrides: dict[str, int], kv_dtype: str) -> "Built":
    from kvscape.hub import DownloadBar
    from kvscape.llm.build import build_artifact, keep_library

    with DownloadBar() as progress:
        built = build_artifact(build, jit, model_lib, overrides, kv_dtype, progress)
    return built if model_lib is None else keep_library(built, build, overrides, kv_dtype)


def _written(
    built: "Built",
    build: "BuildConfig",
    overrides: dict[str, int],
    kv_dtype: str,
    output: Path,
    debug_dump: Path | None,
) -> Path:
    """Write the library elsewhere: the cache's own where its form fits, else compiled once more."""
    import shutil

    from kvscape.files import written_file
    from kvscape.llm.compile_process import compile_in_child

    if output.suffix == built.library.suffix and debug_dump is None:
        with written_file(output) as temporary:
            shutil.copyfile(built.library, temporary)
    else:
        where = output.absolute()
        compile_in_child(
            built.artifact.folder, built.target.name, build.activation, overrides, where, kv_dtype, debug_dump
        )
    return output


def _facts(built: "Built", library: Path) -> dict[str, Any]:
    """What a study must know of a build (see ``kvscape.study.model_facts``), and what a person wants to."""
    manifest, metadata = built.artifact.manifest, library_metadata(library)
    return {
        "artifact": built.artifact.folder,
        "library": library,
        "library_key": metadata.key,
        "target": metadata.target,
        "quantization": manifest.quantization,
        "bits_per_weight": manifest.bits_per_weight,
        "weights_bytes": built.weights_bytes,
        "weights_key": manifest.weights_key,
        "model": manifest.model.to_json(),
        "workspaces": {name: asdict(workspace) for name, workspace in metadata.workspaces.items()},
    }
