"""The canonical weights of a model, block by block."""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from kvscape.artifact.tensor_file import TensorSpec
from kvscape.artifact.tensor_writer import TensorWriter, little_endian
from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.decode import relative_error
from kvscape.quantization.encode import encode
from kvscape.quantization.format import Format
from kvscape.quantization.scheme import Scheme
from kvscape.weights.blocks import blocks, in_order
from kvscape.weights.journal import Finished, Journal
from kvscape.weights.source import Source, SourceTensor


@dataclass(frozen=True)
class Weights:
    """The tensors of one conversion and the format that each is stored in."""

    tensors: Mapping[str, SourceTensor]
    formats: Mapping[str, Format]

    @classmethod
    def of(cls, source: Source, scheme: Scheme) -> "Weights":
        tensors = dict(source.stream())
        return cls(tensors, {name: scheme.format_of(name, t.shape, t.format) for name, t in tensors.items()})

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Dtype and shape of every stored array, in the file's order."""
        return {
            f"{name}.{part}": TensorSpec(dtype, shape)
            for name, tensor in self.tensors.items()
            for part, (dtype, shape) in self.formats[name].shapes(tensor.shape).items()
        }

    def blocks(self, name: str) -> list[slice]:
        shape = self.tensors[name].shape
        return blocks(shape[0], math.prod(shape[1:])) if len(shape) > 1 else [slice(0, shape[0])]

    def stored(self, name: str) -> list[str]:
        """The names of a tensor's stored arrays."""
        return [f"{name}.{part}" for part in self.formats[name].shapes(self.tensors[name].shape)]


@dataclass(frozen=True)
class _Block:
    name: str
    rows: slice


@dataclass(frozen=True)
class _Done:
    """A block that is written; ``square`` is the sum of its values' squares, None where it was kept exactly."""

    weights: int
    checksum: int
    relative_error: float
    square: float | None


def write_weights(
    weights: Weights, path: Path, journal: Journal, progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Write ``path`` and return the relative squared error of each tensor.

    Tensors that the journal has finished, and whose bytes are in the file, are left as they are.
    """
    total = sum(math.prod(tensor.shape) for tensor in weights.tensors.values())
    with TensorWriter(path, weights.specs) as writer:
        errors = {entry.name: entry.relative_error for entry in _verified(weights, writer, journal)}
        left = [name for name in weights.tensors if name not in errors]
        done = total - sum(math.prod(weights.tensors[name].shape) for name in left)
        progress(done, total)
        todo = [_Block(name, rows) for name in left for rows in weights.blocks(name)]
        results = in_order(partial(_write_block, weights, writer), todo)
        for name in left:
            written = []
            for _ in weights.blocks(name):
                written.append(next(results))
                done += written[-1].weights
                progress(done, total)
            errors[name] = _relative_error(weights, name, written)
            journal.add(Finished(name, errors[name], tuple(block.checksum for block in written)))
    return errors


def _verified(weights: Weights, writer: TensorWriter, journal: Journal) -> Iterator[Finished]:
    """Yield what the journal has finished and the file holds."""
    known = [journal.finished[name] for name in weights.tensors if name in journal.finished]
    todo = [_Block(entry.name, rows) for entry in known for rows in weights.blocks(entry.name)]
    checksums = in_order(partial(_checksum, weights, writer), todo)
    for entry in known:
        if entry.checksums == tuple(next(checksums) for _ in weights.blocks(entry.name)):
            yield entry


def _checksum(weights: Weights, writer: TensorWriter, block: _Block) -> int:
    checksum = 0
    for stored in weights.stored(block.name):
        checksum = zlib.crc32(writer.read(stored, block.rows.start, block.rows.stop - block.rows.start), checksum)
    return checksum


def _write_block(weights: Weights, writer: TensorWriter, block: _Block) -> _Done:
    tensor = weights.tensors[block.name].part(block.rows)
    try:
        arrays, error, square = _rounded(tensor, weights.formats[block.name])
    except WeightsError as damage:
        raise WeightsError(f"tensor {block.name}: {damage.what}", damage.why, damage.do) from None
    checksum = 0
    for name, array in arrays.items():
        writer.write(f"{block.name}.{name}", array, block.rows.start)
        checksum = zlib.crc32(little_endian(array), checksum)
    return _Done(math.prod(tensor.shape), checksum, error, square)


def _rounded(tensor: SourceTensor, fmt: Format) -> tuple[Mapping[str, Array], float, float | None]:
    """Return a part's arrays in ``fmt``, their relative error and, where it may not be 0, the values' squares."""
    keeps = tensor.format == fmt
    if keeps and tensor.is_exact:
        return tensor.kept(), 0.0, None
    values = tensor.values()
    arrays = tensor.kept() if keeps else encode(values, fmt)
    return arrays, relative_error(values, arrays, fmt), _squares(values)


def _relative_error(weights: Weights, name: str, written: list[_Done]) -> float:
    """The mean of the blocks' errors, each weighted with its squares: those of exact blocks are looked up only here."""
    if not any(block.relative_error for block in written):
        return 0.0
    errors, squares = 0.0, 0.0
    for rows, block in zip(weights.blocks(name), written, strict=True):
        square = _squares(weights.tensors[name].part(rows).values()) if block.square is None else block.square
        errors, squares = errors + block.relative_error * square, squares + square
    return errors / squares


def _squares(values: F32) -> float:
    return float(np.square(values, dtype=np.float64).sum())
