"""The GGUF file that llama.cpp loads: the model's own, or one that llama.cpp's quantizer made of it, once."""

import ctypes
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from kvscape.config import BuildConfig, ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.files import remove_leftovers, written_file
from kvscape.hub import Progress, cache_dir, resolve, silent
from kvscape.hub.cache import locked
from kvscape.subjects.llamacpp.library import find_library, package_version
from kvscape.subjects.llamacpp.names import QUANTIZATIONS, TENSOR_TYPES
from kvscape.weights.readers.gguf_config import read_config
from kvscape.weights.readers.gguf_files import open_gguf
from kvscape.weights.readers.random import RANDOM
from kvscape.weights.sources import gguf_file


@dataclass(frozen=True)
class ModelFile:
    """A file to load. ``key`` names its content: source and, where it was made, how."""

    path: Path
    model: ModelConfig
    weights_bytes: int
    key: str


def source_model(build: BuildConfig, progress: Progress = silent) -> ModelConfig:
    """Shape of a build's model, downloaded where it is not there."""
    return _read(_source(build, progress), "").model


def find_model_file(build: BuildConfig, progress: Progress = silent) -> ModelFile:
    """Return the build's file, downloading and quantizing what is missing.

    Raises HubError, WeightsError, or DeviceError where llama.cpp is not installed.
    """
    source = _source(build, progress)
    sha256 = open_gguf(source).sha256
    if QUANTIZATIONS[build.quantization] is None:
        return _read(source, sha256)
    key = _key(sha256, build)
    path = cache_dir() / "llamacpp" / f"{source.stem}-{build.quantization}-{key[:12]}.gguf"
    with locked(path.parent):
        if not path.exists():
            remove_leftovers(path)
            progress(f"quantize to {build.quantization}", 0, None)
            _quantize(source, path, build)
            progress(f"quantize to {build.quantization}", 0, 0)
    return _read(path, key)


def _source(build: BuildConfig, progress: Progress) -> Path:
    if build.model.startswith(RANDOM):
        raise _unreadable(build.model)
    path = resolve(build.model, progress)
    if (path / "kvscape.json").exists():
        raise _unreadable(str(path))
    return gguf_file(path)


def _unreadable(model: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"llama.cpp cannot read {model}", "it reads GGUF files", "give the original model")


def _key(sha256: str, build: BuildConfig) -> str:
    content = [sha256, build.quantization, build.embedding_quantization, package_version()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read(path: Path, key: str) -> ModelFile:
    files = open_gguf(path)
    return ModelFile(path, read_config(files), sum(tensor.nbytes for tensor in files.tensors.values()), key)


def _quantize(source: Path, path: Path, build: BuildConfig) -> None:
    library = find_library()
    params = library.api.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = QUANTIZATIONS[build.quantization], True
    params.nthread = os.cpu_count() or 1
    if build.embedding_quantization is not None:
        params.token_embedding_type = TENSOR_TYPES[build.embedding_quantization]
        params.output_tensor_type = TENSOR_TYPES[build.embedding_quantization]
    library.log.clear()
    with written_file(path) as temporary:
        if library.api.llama_model_quantize(os.fsencode(source), os.fsencode(temporary), ctypes.byref(params)):
            why = library.log.error
            raise WeightsError(f"llama.cpp cannot quantize {source} to {build.quantization}", why, "choose another")
