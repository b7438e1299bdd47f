"""From a model's name to converted weights and a compiled library: what is there already is used again."""

import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import is_whole
from kvscape.compiler.key import library_key
from kvscape.compiler.target import Target, device_target
from kvscape.config import (
    BUILT_IN,
    CALIBRATION_METHOD,
    KV_DTYPES,
    SELF,
    BuildConfig,
    adapter_name,
    cuda_architecture,
    cuda_index,
)
from kvscape.errors import ArtifactError, ConfigError, near_match
from kvscape.files import remove_leftovers, written_file
from kvscape.hub import Progress, cache_dir, resolve, silent
from kvscape.hub.cache import locked
from kvscape.llm.calibrate_process import calibrate_in_child
from kvscape.llm.compile_process import compile_in_child
from kvscape.llm.known import KnownArtifact
from kvscape.llm.model_lib import check_key, library_target
from kvscape.plain_text import Text, built_in_text, text_from_file
from kvscape.quantization.scheme import Scheme
from kvscape.weights.convert import convert, weights_key
from kvscape.weights.pack import pack_weights, packed_bytes
from kvscape.weights.readers.random import RANDOM, RandomSource
from kvscape.weights.source import Source
from kvscape.weights.sources import check_weightless, open_source

JIT = ("on", "off", "redo")


@dataclass(frozen=True)
class Built:
    """An artefact with weights packed for ``target`` and a library compiled for it."""

    artifact: Artifact
    target: Target
    library: Path

    @property
    def packed_weights(self) -> Path:
        return self.artifact.packed_weights(self.target.layout.name)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the packed weights, known before they are packed."""
        return packed_bytes(self.artifact, self.target.layout)


def build_artifact(
    build: BuildConfig,
    jit: str = "on",
    model_lib: Path | None = None,
    overrides: dict[str, int] | None = None,
    kv_dtype: str = KV_DTYPES[0],
    progress: Progress = silent,
) -> Built:
    """Download, convert, pack and compile what is missing.

    The library has ``kv_dtype`` among its KV precisions. ``jit`` is MLC's policy: ``off`` never compiles, ``redo``
    always does. ``model_lib`` is a library to use as it is.
    Raises DeviceError, HubError, WeightsError, UnsupportedModelError, ConfigError or ArtifactError.
    """
    check_device(build.device)
    if jit not in JIT:
        raise ConfigError(f"unknown jit policy {jit!r}", "", near_match(jit, JIT))
    artifact = find_artifact(build, progress)
    target = _target(artifact, build, model_lib, kv_dtype)
    with locked(artifact.folder):
        if cuda_architecture(build.device) is None:  # whoever has such a GPU packs the weights there
            _pack(artifact, target)
        library = model_lib or _library(artifact, target, build.activation, jit, overrides or {}, kv_dtype, progress)
    return Built(artifact, target, library)


def _target(artifact: Artifact, build: BuildConfig, model_lib: Path | None, kv_dtype: str) -> Target:
    """This machine's, or that of a library that is given."""
    if model_lib is None:
        return device_target(build.device)
    return library_target(model_lib, artifact.manifest, build.activation, kv_dtype, build.device)


def keep_library(built: Built, build: BuildConfig, overrides: dict[str, int], kv_dtype: str) -> Built:
    """Copy a library that was given to where a build's is looked for; raise ArtifactError for one of another build."""
    path = _library_path(built.artifact, built.target, build.activation, overrides, kv_dtype)
    check_key(built.library, path.stem)
    with locked(built.artifact.folder), written_file(path) as temporary:
        shutil.copyfile(built.library, temporary)
    return replace(built, library=path)


def check_device(device: str) -> None:
    """Raise DeviceError for a device that kvscape has no code for, or that this machine lacks."""
    if cuda_architecture(device) or adapter_name(device) or cuda_index(device) is not None:
        device_target(device)


def find_artifact(build: BuildConfig, progress: Progress = silent) -> Artifact:
    """Return the artefact of a build: a folder that is one, or the cache's, converted if it is not there."""
    if build.model.startswith(RANDOM):
        return _converted(RandomSource(build.model), build.model, build, progress)
    path = resolve(build.model, progress, check_weightless)
    if (path / "kvscape.json").exists():
        return _matching(Artifact(path), build)
    known = KnownArtifact(path, build, calibration_key(build))
    if (found := known.find()) and _usable(*found):
        return Artifact(found[0])
    artifact = _converted(open_source(path), str(path), build, progress)
    known.write(artifact.folder, artifact.manifest.weights_key)
    return artifact


def _converted(source: Source, model: str, build: BuildConfig, progress: Progress) -> Artifact:
    """The cache's artefact of a source, which can be opened as ``model``."""
    key = weights_key(source.sha256, build.quantization, build.embedding_quantization, calibration_key(build))
    folder = cache_dir() / "artifacts" / f"{source.name.removesuffix('.gguf')}-{build.quantization}-{key[:12]}"
    size = source.nbytes
    if build.calibrate is not None:
        return _calibrated(source, model, build, key, folder, progress)
    with locked(cache_dir() / "artifacts"):
        if _usable(folder, key):
            return Artifact(folder)
        return convert(
            source,
            folder,
            build.quantization,
            build.embedding_quantization,
            lambda done, total: progress(f"convert to {build.quantization}", size * done // total, size),
        )


def calibration_key(build: BuildConfig) -> str | None:
    """What stands for the text and the method in the key of calibrated weights. Raises ConfigError for a text that
    cannot be read."""
    if build.calibrate is None:
        return None
    return CALIBRATION_METHOD.key(build.calibrate if build.calibrate == SELF else _text(build.calibrate).sha256)


def _text(name: str) -> Text:
    return built_in_text("calibration") if name == BUILT_IN else text_from_file(Path(name))


def _calibrated(source: Source, model: str, build: BuildConfig, key: str, folder: Path, progress: Progress) -> Artifact:
    work = cache_dir() / "calibrations" / key[:12]
    if _usable(folder, key):
        return Artifact(folder)
    writes = BuildConfig(build.model, device=build.device)
    writer = build_artifact(writes, progress=progress).artifact.folder if build.calibrate == SELF else None
    with locked(work, lambda: progress("wait for the calibration of another process", 0, None)):
        if not _usable(folder, key):
            calibrate_in_child(build, model, source.nbytes, folder, work, writer, progress)
            shutil.rmtree(work, ignore_errors=True)
    return Artifact(folder)


def _usable(folder: Path, key: str) -> bool:
    """Whether the cache's artefact is whole and of this version; another is written again."""
    artifact = Artifact(folder)
    try:
        known = artifact.manifest.weights_key == key
    except ArtifactError:
        return False
    return known and artifact.tokenizer.exists() and is_whole(artifact.canonical_weights)


def _matching(artifact: Artifact, build: BuildConfig) -> Artifact:
    """A converted folder has its quantization; asking for another is a mistake."""
    have = artifact.manifest
    asked = Scheme(build.quantization, build.embedding_quantization or have.embedding_quantization)
    if build.calibrate is not None and (have.calibration is None or have.calibration.key != calibration_key(build)):
        on = "no text" if have.calibration is None else have.calibration.text
        raise ArtifactError(
            f"{artifact.folder} holds weights that were calibrated on {on}",
            f"{build.calibrate} was asked for",
            "calibrate the original model, or leave out --calibrate",
        )
    if build.quantization not in ("auto", have.quantization) or asked.embedding != have.embedding_quantization:
        raise ArtifactError(
            f"{artifact.folder} holds {have.quantization} weights with a {have.embedding_quantization} embedding",
            f"{build.quantization} was asked for",
            "convert the original model again, or leave out --quantization",
        )
    return artifact


def _pack(artifact: Artifact, target: Target) -> None:
    path = artifact.packed_weights(target.layout.name)
    if not is_whole(path):
        remove_leftovers(path)
        pack_weights(artifact, target.layout)


def _library(
    artifact: Artifact,
    target: Target,
    activation: str,
    jit: str,
    overrides: dict[str, int],
    kv_dtype: str,
    progress: Progress,
) -> Path:
    path = _library_path(artifact, target, activation, overrides, kv_dtype)
    activation = target.activation(activation)
    if jit == "off" and not path.exists():
        raise ArtifactError(f"no library at {path}", "--jit off forbids compiling", "run 'kvscape compile' first")
    if jit == "redo" or (jit == "on" and not _is_whole_library(path)):
        remove_leftovers(path)
        progress(f"compile for {target.name}", 0, None)
        compile_in_child(artifact.folder, target.name, activation, overrides, path, kv_dtype)
        progress(f"compile for {target.name}", 0, 0)
    return path


def _library_path(
    artifact: Artifact, target: Target, activation: str, overrides: dict[str, int], kv_dtype: str
) -> Path:
    """Where the library of a build is: its name is its key."""
    manifest = artifact.manifest
    formats = {name: info.format for name, info in manifest.tensors.items() if len(info.shape) > 1}
    kv_dtypes, activation = target.library_kv_dtypes(kv_dtype), target.activation(activation)
    return artifact.library(library_key(manifest.model, formats, target, activation, overrides, kv_dtypes))


def _is_whole_library(path: Path) -> bool:
    try:
        with tarfile.open(path) as tar:
            return bool(tar.getmembers())
    except (OSError, tarfile.TarError):
        return False
