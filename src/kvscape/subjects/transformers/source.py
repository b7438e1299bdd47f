"""The original weights that a transformers model is made of."""

import hashlib
import json
from pathlib import Path

from kvscape.config import BuildConfig, ModelConfig
from kvscape.errors import UnsupportedModelError
from kvscape.hub import Progress, resolve, silent
from kvscape.subjects.transformers.library import find_library, package_version
from kvscape.weights.readers.huggingface import CONFIG, HuggingFaceSource
from kvscape.weights.readers.random import RANDOM, RandomSource
from kvscape.weights.source import Source
from kvscape.weights.sources import check_weightless, open_source


def find_source(build: BuildConfig, progress: Progress = silent) -> Source:
    """Open a build's model, downloading what is missing.

    Raises DeviceError where transformers is not installed, before that; HubError, WeightsError, or
    UnsupportedModelError for one that kvscape cannot read.
    """
    find_library()
    if build.model.startswith(RANDOM):
        return RandomSource(build.model)
    path = resolve(build.model, progress, check_weightless)
    if (path / "kvscape.json").exists():
        raise UnsupportedModelError(
            f"transformers cannot read {path}", "its weights are rounded already", "give the original model"
        )
    return open_source(path)


def source_model(build: BuildConfig, progress: Progress = silent) -> ModelConfig:
    """Shape of a build's model, downloaded where it is not there."""
    return find_source(build, progress).config


def own_folder(source: Source) -> Path | None:
    """The folder that transformers reads by itself; None where the weights come from another kind of file.

    So does the text model of one that also sees pictures: transformers would load the whole.
    """
    if not isinstance(source, HuggingFaceSource):
        return None
    whole = source.folder.json(CONFIG).get("model_type") == source.config.model_type
    return source.folder.path if whole else None


def weights_key(source: Source, build: BuildConfig) -> str:
    """What the loaded weights are, hashed."""
    content = [source.sha256, build.quantization, build.embedding_quantization, package_version()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
