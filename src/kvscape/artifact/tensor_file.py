"""Tensors in one file: the safetensors format, every tensor aligned to 64 bytes and read by mapping the file.

The format: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, the data without holes. So
that a kernel can read the mapped bytes as they are, the header is padded with spaces and the gaps are tensors of their
own, named ``_pad.N``. Source: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.errors import ArtifactError

ALIGNMENT_BYTES = 64

_PAD = "_pad."
_READ_BYTES = 64 << 20  # an interrupt is heard between reads
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


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in its file; ``offset`` is from the beginning of the file."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, rows: slice) -> NDArray[Any]:
        """Read rows of the first axis into an array of its own."""
        first, last, _ = rows.indices(self.shape[0])
        per_row = math.prod(self.shape[1:])
        offset = self.offset + first * per_row * self.dtype.itemsize
        data = np.fromfile(self.path, self.dtype, (last - first) * per_row, offset=offset)
        return data.reshape(last - first, *self.shape[1:])


def header(specs: Mapping[str, TensorSpec]) -> bytes:
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


def find_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return where a file's tensors lie; nothing but the header is read.

    Raises ArtifactError when the file is missing, cut short, or not written by ``TensorWriter``.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 8 + int.from_bytes(first := file.read(8), "little")
            text = file.read(start - 8) if len(first) == 8 and start <= size else None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", error.strerror or str(error), _REDO) from None
    try:
        if text is None:
            raise ValueError(f"its header does not fit into its {size} bytes")
        return dict(_tensors(path, text, start, size))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged", str(error), _REDO) from None


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return a file's tensors as views of the mapped file: 64-byte aligned, read when touched, private when written.

    Raises ArtifactError as ``find_tensors`` does.
    """
    tensors = find_tensors(path)
    return _views(np.memmap(path, np.uint8, mode="c"), tensors)


def read_tensors(path: Path, allocate: Callable[[int], NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
    """Read a file's tensors into memory that ``allocate`` gives, 64-byte aligned in it.

    Raises ArtifactError as ``find_tensors`` does, and when the file shrinks meanwhile.
    """
    tensors = find_tensors(path)
    memory = allocate(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        done = 0
        while count := file.readinto(memory[done : done + _READ_BYTES].data):
            done += count
    if done < len(memory):
        raise ArtifactError(f"{path} is damaged", f"it ended after {done} of {len(memory)} bytes", _REDO)
    return _views(memory, tensors)


def _views(data: NDArray[np.uint8], tensors: Mapping[str, StoredTensor]) -> dict[str, NDArray[Any]]:
    return {
        name: data[tensor.offset : tensor.offset + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)
        for name, tensor in tensors.items()
    }


def is_whole(path: Path) -> bool:
    """Whether a file of tensors is there and has all its bytes."""
    try:
        find_tensors(path)
    except ArtifactError:
        return False
    return True


def _tensors(path: Path, text: bytes, start: int, size: int) -> Iterator[tuple[str, StoredTensor]]:
    reached = 0
    for name, entry in json.loads(text).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        tensor = StoredTensor(path, start + first, _DTYPES[entry["dtype"]], tuple(entry["shape"]))
        if last - first != tensor.nbytes or min(first, *tensor.shape, 0) < 0:
            raise ValueError(f"tensor {name} of shape {tensor.shape} does not take {last - first} bytes")
        if start + last > size:
            raise ValueError(f"tensor {name} ends at {last} of {size - start} bytes")
        if first != reached:
            raise ValueError(f"tensor {name} begins at {first}, not at {reached}")
        reached = last
        if not name.startswith(_PAD):
            if tensor.offset % ALIGNMENT_BYTES:
                raise ValueError(f"tensor {name} is not aligned to {ALIGNMENT_BYTES} bytes")
            yield name, tensor
    if start + reached != size:
        raise ValueError(f"it needs {start + reached} bytes, has {size}")


_REDO = "convert the model again with 'kvscape convert'"
