"""A tensor joined from rows in GGML's blocks; nothing is read before it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvscape.quantization.arrays import F32, U8, Array
from kvscape.quantization.encode import encode
from kvscape.quantization.format import Format, most_precise
from kvscape.quantization.ggml import GgmlType, keeps_codes, kept, values


@dataclass(frozen=True)
class Rows:
    """``raw`` [rows, bytes]: whole rows of blocks of one type, on disk until touched.

    ``rotary_heads`` > 0: the rows of so many heads lie as GGUF has them, (pair, half), and are taken as Hugging Face
    has them, (half, pair). Codes are moved, not changed.
    """

    raw: U8
    kind: GgmlType
    rotary_heads: int = 0

    def blocks(self) -> U8:
        if not self.rotary_heads:
            return self.raw
        rows, row_bytes = self.raw.shape
        pairs = rows // self.rotary_heads // 2
        return self.raw.reshape(self.rotary_heads, pairs, 2, row_bytes).swapaxes(1, 2).reshape(rows, row_bytes)


@dataclass(frozen=True)
class GgmlTensor:
    """Rows of one or more GGUF tensors, one below the other: a ``SourceTensor``."""

    shape: tuple[int, ...]
    rows: Sequence[Rows]

    @cached_property
    def format(self) -> Format:
        """Rows of different types take the most precise of their formats."""
        return most_precise(rows.kind.keeps for rows in self.rows)

    @property
    def is_exact(self) -> bool:
        return all(rows.kind.keeps == self.format and keeps_codes(rows.raw, rows.kind) for rows in self.rows)

    def kept(self) -> dict[str, Array]:
        """Codes are kept; only rows of a type that is less precise than ``format`` are rounded to it."""
        parts = [self._stored(rows) for rows in self.rows]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {"weight": arrays["weight"].reshape(self.shape)} if self.format.is_float else arrays

    def values(self) -> F32:
        return np.concatenate([values(rows.blocks(), rows.kind) for rows in self.rows]).reshape(self.shape)

    def _stored(self, rows: Rows) -> dict[str, Array]:
        blocks = rows.blocks()
        return (
            kept(blocks, rows.kind)
            if rows.kind.keeps == self.format
            else encode(values(blocks, rows.kind), self.format)
        )
