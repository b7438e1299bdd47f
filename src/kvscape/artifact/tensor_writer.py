"""A file of tensors whose sizes are known, written in any order and from several threads."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact.tensor_file import TensorSpec, header
from kvscape.files import written_file


class TensorWriter:
    """An open file of ``specs``; what was written to it before stays, what was not is zero.

    Tensors are written and read by rows of the first axis, or by bytes where a row is no unit of the layout.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        text = header(specs)
        self.specs = specs
        self._offsets = _offsets(text, specs)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.write(text)
        self._file.flush()
        self._file.truncate(len(text) + _data_bytes(text))

    def __enter__(self) -> "TensorWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, name: str, array: NDArray[Any], first_row: int = 0, rows: int | None = None) -> None:
        """Write ``array`` at ``first_row`` of ``rows`` equal parts of the tensor: by default, rows of its first axis.

        Raises ValueError for an array that is not of the tensor's type or does not fit there.
        """
        spec = self.specs[name]
        count = rows or (spec.shape[0] if spec.shape else 1)
        offset = spec.nbytes * first_row // max(1, count)
        if str(array.dtype) != spec.dtype or offset + array.nbytes > spec.nbytes:
            raise ValueError(f"expected {name} {spec}, got {array.dtype} {array.shape} at byte {offset}")
        data = little_endian(array)
        written = 0
        while written < len(data):  # one call writes at most 2 GB
            written += os.pwrite(self._file.fileno(), data[written:], self._offsets[name] + offset + written)

    def read(self, name: str, first_row: int, rows: int) -> bytes:
        """Return what the file holds of rows of the first axis."""
        spec = self.specs[name]
        row_bytes = spec.nbytes // spec.shape[0]
        return os.pread(self._file.fileno(), rows * row_bytes, self._offsets[name] + first_row * row_bytes)


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write ``tensors`` whole, by rename; any safetensors reader reads the file."""
    specs = {name: TensorSpec(str(array.dtype), array.shape) for name, array in tensors.items()}
    with written_file(path) as temporary, TensorWriter(temporary, specs) as writer:
        for name, array in tensors.items():
            writer.write(name, array)


def little_endian(array: NDArray[Any]) -> memoryview:
    """The bytes of an array as a file holds them."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def _offsets(text: bytes, specs: Mapping[str, TensorSpec]) -> dict[str, int]:
    entries = json.loads(text[8:])
    return {name: len(text) + entries[name]["data_offsets"][0] for name in specs}


def _data_bytes(text: bytes) -> int:
    return max((entry["data_offsets"][1] for entry in json.loads(text[8:]).values()), default=0)
