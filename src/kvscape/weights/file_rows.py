"""Rows of bytes in a file, read when they are asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import U8


@dataclass(frozen=True)
class FileRows:
    """``shape`` [rows, bytes of a row] from ``offset`` on; a slice of rows is an array of its own.

    The file is read, not mapped: mapped pages would count as this process's memory until the system takes them back.
    Raises WeightsError for a file that cannot be read any more.
    """

    path: Path
    offset: int
    shape: tuple[int, int]

    def __getitem__(self, rows: slice) -> U8:
        first, last, _ = rows.indices(self.shape[0])
        count, row_bytes = max(0, last - first), self.shape[1]
        try:
            data = np.fromfile(self.path, np.uint8, count * row_bytes, offset=self.offset + first * row_bytes)
        except OSError as error:
            raise WeightsError(f"cannot read {self.path}", error.strerror or str(error), "check the path") from None
        if len(data) != count * row_bytes:
            raise WeightsError(f"{self.path} has become shorter", "it changed while it was read", "try again")
        return data.reshape(count, row_bytes)
