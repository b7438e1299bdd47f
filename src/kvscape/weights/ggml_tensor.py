"""A tensor joined from rows in GGML's blocks; nothing is read before it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from kvscape.quantization.arrays import F32, U8, Array, row_blocks
from kvscape.quantization.bfloat16 import bfloat16_format
from kvscape.quantization.encode import encode
from kvscape.quantization.format import Format, most_precise
from kvscape.quantization.ggml import GgmlType, values
from kvscape.quantization.ggml_codes import keeps_codes, kept


class RowBytes(Protocol):
    """Rows of bytes [rows, bytes]: an array, or a place in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice) -> U8: ...


@dataclass(frozen=True)
class Rows:
    """``raw`` [rows, bytes]: whole rows of blocks of one type.

    ``rotary_heads`` > 0: the rows of so many heads lie as GGUF has them, (pair, half), and are taken as Hugging Face
    has them, (half, pair). Codes are moved, not changed.
    """

    raw: RowBytes
    kind: GgmlType
    rotary_heads: int = 0

    def __len__(self) -> int:
        return self.raw.shape[0]

    @property
    def columns(self) -> int:
        return self.raw.shape[1] // self.kind.block_bytes * self.kind.block_size

    def blocks(self, first: int, last: int) -> U8:
        """Return rows ``first`` to ``last`` in Hugging Face's order."""
        if not self.rotary_heads:
            return self.raw[first:last]
        head = len(self) // self.rotary_heads
        of_head = np.arange(head).reshape(-1, 2).swapaxes(0, 1).ravel()
        rows = np.arange(first, last)
        places = rows // head * head + of_head[rows % head]
        lowest = int(places.min(initial=len(self)))
        span = self.raw[lowest : int(places.max(initial=0)) + 1]
        moved: U8 = span[places - lowest]
        return moved

    def pieces(self) -> Iterator[U8]:
        """Yield all rows, some at a time, in the file's order."""
        for rows in row_blocks(len(self), self.columns):
            yield self.raw[rows]


@dataclass(frozen=True)
class GgmlTensor:
    """Rows of one or more GGUF tensors, one below the other: a ``SourceTensor``.

    A tensor of one dimension is rows of single blocks. ``becomes`` is the format of a part, which is the whole's.
    """

    shape: tuple[int, ...]
    rows: Sequence[Rows]
    becomes: Format | None = None

    @cached_property
    def format(self) -> Format:
        """Rows of different types take the most precise of their formats."""
        return self.becomes or most_precise(_format(rows) for rows in self.rows)

    @property
    def is_exact(self) -> bool:
        return all(
            rows.kind.keeps == self.format and all(keeps_codes(raw, rows.kind) for raw in rows.pieces())
            for rows in self.rows
        )

    def part(self, rows: slice) -> "GgmlTensor":
        """Read ``rows`` now; nothing else of the file stays in memory."""
        first, last, _ = rows.indices(self.shape[0])
        found, start = [], 0
        per_row = self.rows[0].columns if len(self.shape) == 1 else 1
        for piece in self.rows:
            low, high = (min(max(edge // per_row - start, 0), len(piece)) for edge in (first, last))
            if low < high:
                found.append(Rows(piece.blocks(low, high), piece.kind))
            start += len(piece)
        return GgmlTensor((last - first, *self.shape[1:]), found, self.format)

    def kept(self) -> dict[str, Array]:
        """Codes are kept; only rows of a type that is less precise than ``format`` are rounded to it."""
        parts = [self._stored(rows) for rows in self.rows]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {"weight": arrays["weight"].reshape(self.shape)} if self.format.is_float else arrays

    def values(self) -> F32:
        return np.concatenate([values(_all(rows), rows.kind) for rows in self.rows]).reshape(self.shape)

    def _stored(self, rows: Rows) -> dict[str, Array]:
        blocks = _all(rows)
        return (
            kept(blocks, rows.kind)
            if rows.kind.keeps == self.format
            else encode(values(blocks, rows.kind), self.format)
        )


def _all(rows: Rows) -> U8:
    return rows.blocks(0, len(rows))


def _format(rows: Rows) -> Format:
    if rows.kind.name == "BF16":
        return bfloat16_format(np.ascontiguousarray(raw).view("<u2") for raw in rows.pieces())
    return rows.kind.keeps
