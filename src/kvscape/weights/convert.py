"""Write a source of weights as an artefact: canonical weights, shape, tokenizer and manifest."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from kvscape.artifact import Artifact, Manifest, TensorInfo
from kvscape.artifact.tensor_file import TensorSpec, write_stream
from kvscape.errors import WeightsError
from kvscape.files import write_text, written_folder
from kvscape.quantization.arrays import Array
from kvscape.quantization.decode import relative_error
from kvscape.quantization.encode import encode
from kvscape.quantization.format import Format
from kvscape.quantization.scheme import Scheme
from kvscape.version import __version__
from kvscape.weights.hf_config import hf_config
from kvscape.weights.source import Source, SourceTensor


class Progress(Protocol):
    """Told how many weights are written, of how many."""

    def __call__(self, done: int, total: int) -> None: ...


def convert(
    source: Source,
    folder: Path,
    quantization: str = "auto",
    embedding_quantization: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Artifact:
    """Convert ``source`` into ``folder``, which appears whole or not at all; an old one is replaced.

    Raises ConfigError for an unknown quantization or one that does not fit the model's shape, WeightsError for a
    damaged source, KvscapeError when the folder cannot be written.
    """
    scheme = Scheme(quantization, embedding_quantization)
    with written_folder(folder) as temporary:
        artifact = Artifact(temporary)
        weights = _Weights(source, scheme, progress)
        write_stream(artifact.canonical_weights, weights.specs, weights.arrays())
        _write_texts(source, artifact)
        _manifest(source, scheme, weights).write(temporary)
    return Artifact(folder)


def weights_key(source_sha256: str, quantization: str, embedding_quantization: str | None = None) -> str:
    """Return the key of converted weights: all that changes them, hashed."""
    scheme = Scheme(quantization, embedding_quantization)
    parts = [source_sha256, scheme.quantization, scheme.embedding, __version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Weights:
    """The tensors of one conversion: formats first, then arrays one tensor at a time, errors noted on the way."""

    def __init__(self, source: Source, scheme: Scheme, progress: Progress) -> None:
        self.tensors = dict(source.stream())
        self.formats = {n: scheme.format_of(n, t.shape, t.format) for n, t in self.tensors.items()}
        self.errors: dict[str, float] = {}
        self.count = sum(math.prod(tensor.shape) for tensor in self.tensors.values())
        self._progress = progress

    @property
    def specs(self) -> dict[str, TensorSpec]:
        return {
            f"{name}.{part}": TensorSpec(dtype, shape)
            for name, tensor in self.tensors.items()
            for part, (dtype, shape) in self.formats[name].shapes(tensor.shape).items()
        }

    def arrays(self) -> Iterator[tuple[str, Array]]:
        done = 0
        self._progress(done, self.count)
        for name, tensor in self.tensors.items():
            stored, self.errors[name] = self._stored(name, tensor)
            yield from ((f"{name}.{part}", array) for part, array in stored.items())
            done += math.prod(tensor.shape)
            self._progress(done, self.count)

    def _stored(self, name: str, tensor: SourceTensor) -> tuple[Mapping[str, Array], float]:
        try:
            return _stored(tensor, self.formats[name])
        except WeightsError as error:
            raise WeightsError(f"tensor {name}: {error.what}", error.why, error.do) from None

    def infos(self) -> dict[str, TensorInfo]:
        return {n: TensorInfo(t.shape, self.formats[n].name, self.errors[n]) for n, t in self.tensors.items()}


def _stored(tensor: SourceTensor, fmt: Format) -> tuple[Mapping[str, Array], float]:
    """Return a tensor's arrays in ``fmt`` and the relative squared error that rounding added."""
    keeps = tensor.format == fmt
    if keeps and tensor.is_exact:
        return tensor.kept(), 0.0
    values = tensor.values()
    arrays = tensor.kept() if keeps else encode(values, fmt)
    return arrays, relative_error(values, arrays, fmt)


def _write_texts(source: Source, artifact: Artifact) -> None:
    write_text(artifact.folder / "config.json", json.dumps(hf_config(source.config), indent=2) + "\n")
    write_text(artifact.tokenizer, source.tokenizer_json)
    if source.chat_template is not None:
        write_text(artifact.chat_template, source.chat_template)


def _manifest(source: Source, scheme: Scheme, weights: _Weights) -> Manifest:
    nbytes = sum(spec.nbytes for spec in weights.specs.values())
    return Manifest(
        source=source.name,
        source_sha256=source.sha256,
        quantization=scheme.quantization,
        embedding_quantization=scheme.embedding,
        model=source.config,
        tensors=weights.infos(),
        weights_bytes=nbytes,
        bits_per_weight=8 * nbytes / weights.count,
        weights_key=weights_key(source.sha256, scheme.quantization, scheme.embedding_quantization),
    )
