"""Write a source of weights as an artefact: canonical weights, shape, tokenizer and manifest.

The weights pass through in blocks of rows, on all cores, so that memory does not grow with the model. What is written
and noted in a journal is not done again when an interrupted conversion is run once more.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Protocol

from kvscape.artifact import Artifact, Manifest, TensorInfo
from kvscape.artifact.tensor_writer import write_tensors
from kvscape.config import Calibration
from kvscape.errors import WeightsError
from kvscape.files import resumed_folder, write_text
from kvscape.quantization.arrays import Array
from kvscape.quantization.scheme import Scheme
from kvscape.version import __version__
from kvscape.weights.hf_config import hf_config
from kvscape.weights.journal import Journal
from kvscape.weights.source import Source
from kvscape.weights.write_weights import Weights, write_weights


class Progress(Protocol):
    """Told how many weights are written, of how many."""

    def __call__(self, done: int, total: int) -> None: ...


def convert(
    source: Source,
    folder: Path,
    quantization: str = "auto",
    embedding_quantization: str | None = None,
    progress: Progress = lambda done, total: None,
    calibration: Calibration | None = None,
    calibration_tokens: Array | None = None,
) -> Artifact:
    """Convert ``source`` into ``folder``, which appears whole or not at all; an old one is replaced.

    ``calibration`` says what its codes were calibrated on, where they were, and ``calibration_tokens`` are those of it.

    An interrupted conversion leaves ``.<folder>.partial`` beside it, and the next one goes on from there.
    Raises ConfigError for an unknown quantization, WeightsError for a damaged source, KvscapeError when the folder
    cannot be written.
    """
    scheme = Scheme(quantization, embedding_quantization)
    weights = Weights.of(source, scheme)
    with resumed_folder(folder) as partial:
        errors = _written(weights, Artifact(partial), _identity(source, scheme, weights, calibration), progress)
        _write_texts(source, Artifact(partial))
        if calibration_tokens is not None:
            write_tensors(Artifact(partial).calibration_tokens, {"token_ids": calibration_tokens})
        _manifest(source, scheme, weights, errors, calibration).write(partial)
    return Artifact(folder)


def weights_key(
    source_sha256: str, quantization: str, embedding_quantization: str | None = None, calibration: str | None = None
) -> str:
    """Return the key of converted weights: all that changes them, hashed. ``calibration`` is ``Calibration.key``."""
    scheme = Scheme(quantization, embedding_quantization)
    calibrated = [] if calibration is None else [calibration]
    return _hashed([source_sha256, scheme.quantization, scheme.embedding, __version__, *calibrated])


def _written(weights: Weights, artifact: Artifact, identity: str, progress: Progress) -> dict[str, float]:
    """Write the weights and return each tensor's error. A damaged source leaves nothing: there is no going on."""
    path = artifact.canonical_weights
    path.parent.mkdir(exist_ok=True)
    unfinished, journal = path.with_name(f"{path.name}.partial"), path.with_name("journal.jsonl")
    try:
        errors = write_weights(weights, unfinished, Journal(journal, identity), progress)
    except WeightsError:
        shutil.rmtree(artifact.folder, ignore_errors=True)
        raise
    unfinished.replace(path)
    journal.unlink()
    return errors


def _identity(source: Source, scheme: Scheme, weights: Weights, calibration: Calibration | None) -> str:
    """What must be the same for an interrupted conversion to go on."""
    key = _key(source, scheme, calibration)
    return _hashed([key, *(f"{name} {spec}" for name, spec in weights.specs.items())])


def _key(source: Source, scheme: Scheme, calibration: Calibration | None) -> str:
    calibrated = None if calibration is None else calibration.key
    return weights_key(source.sha256, scheme.quantization, scheme.embedding_quantization, calibrated)


def _hashed(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write_texts(source: Source, artifact: Artifact) -> None:
    write_text(artifact.folder / "config.json", json.dumps(hf_config(source.config), indent=2) + "\n")
    write_text(artifact.tokenizer, source.tokenizer_json)
    if source.chat_template is not None:
        write_text(artifact.chat_template, source.chat_template)


def _manifest(
    source: Source, scheme: Scheme, weights: Weights, errors: dict[str, float], calibration: Calibration | None
) -> Manifest:
    nbytes = sum(spec.nbytes for spec in weights.specs.values())
    tensors = weights.tensors
    return Manifest(
        source=source.name,
        source_sha256=source.sha256,
        quantization=scheme.quantization,
        embedding_quantization=scheme.embedding,
        model=source.config,
        tensors={n: TensorInfo(t.shape, weights.formats[n].name, errors[n]) for n, t in tensors.items()},
        weights_bytes=nbytes,
        bits_per_weight=8 * nbytes / sum(math.prod(tensor.shape) for tensor in tensors.values()),
        weights_key=_key(source, scheme, calibration),
        calibration=calibration,
    )
