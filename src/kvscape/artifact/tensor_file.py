"""Tensors in one file: the safetensors format, every tensor aligned to 64 bytes and read by mapping the file.

The format: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, the data without holes. So
that a kernel can read the mapped bytes as they are, the header is padded with spaces and the gaps are tensors of their
own, named ``_pad.N``. Source: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kvscape.errors import ArtifactError
from kvscape.files import written_file

ALIGNMENT_BYTES = 64

_PAD = "_pad."
_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "uint16": "U16",
    "int16": "I16",
    "uint8": "U8",
    "int8": "I8",
}
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be: numpy's name of its type, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write ``tensors`` whole, by rename; any safetensors reader reads the file."""
    write_stream(path, {name: TensorSpec(str(array.dtype), array.shape) for name, array in tensors.items()}, tensors)


def write_stream(
    path: Path,
    specs: Mapping[str, TensorSpec],
    arrays: Mapping[str, NDArray[Any]] | Iterable[tuple[str, NDArray[Any]]],
) -> None:
    """Write tensors one at a time, as ``arrays`` yields them in the order of ``specs``; the file appears by rename."""
    with written_file(path) as temporary, temporary.open("wb") as file:
        file.write(_header(specs))
        pairs = arrays.items() if isinstance(arrays, Mapping) else arrays
        for (name, spec), (given, array) in zip(specs.items(), pairs, strict=True):
            if (name, spec) != (given, TensorSpec(str(array.dtype), array.shape)):
                raise ValueError(f"expected {name} {spec}, got {given} {array.dtype} {array.shape}")
            _write(file, array)


def _write(file: BinaryIO, array: NDArray[Any]) -> None:
    file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B") if array.size else b"")
    file.write(bytes(-array.nbytes % ALIGNMENT_BYTES))


def _header(specs: Mapping[str, TensorSpec]) -> bytes:
    entries: dict[str, Any] = {}
    offset = 0
    for number, (name, spec) in enumerate(specs.items()):
        end = offset + spec.nbytes
        entries[name] = _entry(_NAMES[spec.dtype], spec.shape, offset, end)
        offset = end + -end % ALIGNMENT_BYTES
        if offset > end:
            entries[f"{_PAD}{number}"] = _entry("U8", (offset - end,), end, offset)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return a file's tensors as views of the mapped file: 64-byte aligned, read when touched, private when written.

    Raises ArtifactError when the file is missing, cut short, or not written by ``write_tensors``.
    """
    try:
        size = path.stat().st_size
        mapped = np.memmap(path, np.uint8, mode="c") if size else np.empty(0, np.uint8)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", error.strerror or str(error), _REDO) from None
    try:
        return dict(_views(mapped))
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged", str(error), _REDO) from None


def is_whole(path: Path) -> bool:
    """Whether a file of tensors is there and has all its bytes."""
    try:
        map_tensors(path)
    except ArtifactError:
        return False
    return True


def _views(mapped: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
    start = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    if len(mapped) < 8 or start > len(mapped):
        raise ValueError(f"its header does not fit into its {len(mapped)} bytes")
    header = json.loads(mapped[8:start].tobytes())
    reached = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        view = _view(mapped[start:], name, entry)
        if first != reached:
            raise ValueError(f"tensor {name} begins at {first}, not at {reached}")
        reached = last
        if not name.startswith(_PAD):
            if (start + first) % ALIGNMENT_BYTES:
                raise ValueError(f"tensor {name} is not aligned to {ALIGNMENT_BYTES} bytes")
            yield name, view
    if start + reached != len(mapped):
        raise ValueError(f"it needs {start + reached} bytes, has {len(mapped)}")


def _view(data: NDArray[np.uint8], name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    first, last = entry["data_offsets"]
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    if last - first != math.prod(shape) * dtype.itemsize or min(first, *shape, 0) < 0:
        raise ValueError(f"tensor {name} of shape {shape} does not take {last - first} bytes")
    if last > len(data):
        raise ValueError(f"tensor {name} ends at {last} of {len(data)} bytes")
    return data[first:last].view(dtype).reshape(shape)


_REDO = "convert the model again with 'kvscape convert'"
