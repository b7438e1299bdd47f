"""The header of a GGUF file: metadata and a table of tensors, checked against the file's size.

Nothing a header says is believed before it is known to lie within the file: counts, lengths and offsets of a damaged or
cut file lead to one clear error. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.weights.readers.cursor import Cursor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
# struct's letter of each scalar type of metadata, by GGUF's number.
_SCALARS = MappingProxyType({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"})
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies: ``shape`` as numpy has it (rows first), ``offset`` from the beginning of the file."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key, and the tensors by name in the file's order."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Read and check a GGUF file's header.

    Raises WeightsError for a missing, cut or damaged file, UnsupportedModelError for a version or tensor type that is
    not GGML's.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise WeightsError(f"cannot read {path}", error.strerror or str(error), "check the path") from None
    try:
        return _parse(Cursor(data, str(path)), size)
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


def _parse(cursor: Cursor, size: int) -> GgufHeader:
    tensor_count, entry_count = _preamble(cursor)
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key = cursor.string()
        if key in metadata:
            raise cursor.damaged(f"metadata {key!r} occurs twice")
        metadata[key] = metadata_value(cursor, cursor.scalar("I"))
    entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
    return GgufHeader(metadata, _placed(cursor, entries, _alignment(cursor, metadata), size))


def _preamble(cursor: Cursor) -> tuple[int, int]:
    if (magic := cursor.take(4)) != _MAGIC:
        raise WeightsError(f"{cursor.where} is not a GGUF file", f"it begins with {magic!r}", "give a .gguf file")
    version = cursor.scalar("I")
    if version not in _VERSIONS:
        kind = "a big-endian file" if version & 0xFFFF == 0 else f"version {version}"
        raise UnsupportedModelError(f"{cursor.where} is {kind} of GGUF", "", "use one of version 2 or 3, little-endian")
    tensor_count, entry_count = cursor.scalar("Q"), cursor.scalar("Q")
    cursor.expect(entry_count, 13)  # length of the key, type, a value of one byte
    cursor.expect(tensor_count, 24)
    return tensor_count, entry_count


def metadata_value(cursor: Cursor, kind: int) -> Any:
    """Read a value of one of GGUF's types."""
    if kind in _SCALARS:
        return cursor.scalar(_SCALARS[kind])
    if kind == _STRING:
        return cursor.string()
    if kind != _ARRAY:
        raise cursor.damaged(f"metadata type {kind} is unknown")
    item, count = cursor.scalar("I"), cursor.scalar("Q")
    if item in _SCALARS:
        return cursor.scalars(_SCALARS[item], count)
    if item != _STRING:
        raise cursor.damaged(f"an array of metadata type {item} is unknown")
    cursor.expect(count, 8)
    return [cursor.string() for _ in range(count)]


def _tensor_entry(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = cursor.string(), cursor.scalar("I")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.damaged(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reversed(cursor.scalars("Q", dimensions)))
    return name, shape, cursor.scalar("I"), cursor.scalar("Q")


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.damaged(f"general.alignment is {alignment!r}, not a power of two")
    return alignment


def _placed(
    cursor: Cursor, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: int, size: int
) -> dict[str, GgufTensor]:
    start = cursor.position + -cursor.position % alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, number, offset in entries:
        if name in tensors:
            raise cursor.damaged(f"tensor {name!r} occurs twice")
        if offset % alignment:
            raise cursor.damaged(f"tensor {name!r} is not aligned to {alignment} bytes")
        type_name, nbytes = _storage(cursor, name, shape, number)
        tensors[name] = GgufTensor(name, type_name, shape, start + offset, nbytes)
    needed = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=0)
    if needed > size:
        raise cursor.truncated(needed)
    return tensors


def _storage(cursor: Cursor, name: str, shape: tuple[int, ...], number: int) -> tuple[str, int]:
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise UnsupportedModelError(
            f"tensor {name!r} of {cursor.where} has the unknown type {number}", "", "use another file of this model"
        ) from None
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    if 0 in shape or shape[-1] % block_size:
        raise cursor.damaged(f"tensor {name!r} of type {kind.name} has the shape {shape}")
    return kind.name, math.prod(shape) // block_size * block_bytes
