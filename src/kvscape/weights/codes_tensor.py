"""A quantized tensor joined from stored rows of codes and scales; nothing is read before it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F32, U32, Array
from kvscape.quantization.decode import decode
from kvscape.quantization.format import Format
from kvscape.quantization.ggml import values
from kvscape.weights.ggml_tensor import RowBytes, Rows


@dataclass(frozen=True)
class Codes:
    """Rows of codes, little-endian words as the format has them, and a row of scales for each."""

    words: RowBytes
    scales: Rows

    def __len__(self) -> int:
        return self.words.shape[0]


@dataclass(frozen=True)
class CodesTensor:
    """Rows of one or more stored tensors, one below the other: a ``SourceTensor`` whose codes are kept as they are."""

    shape: tuple[int, ...]
    format: Format
    rows: Sequence[Codes]
    is_exact: bool = True

    def part(self, rows: slice) -> "CodesTensor":
        first, last, _ = rows.indices(self.shape[0])
        found, start = [], 0
        for piece in self.rows:
            low, high = (min(max(edge - start, 0), len(piece)) for edge in (first, last))
            if low < high:
                scales = Rows(piece.scales.blocks(low, high), piece.scales.kind)
                found.append(Codes(piece.words[low:high], scales))
            start += len(piece)
        return CodesTensor((last - first, *self.shape[1:]), self.format, found)

    def kept(self) -> dict[str, Array]:
        return {
            "q_weight": np.concatenate([_words(piece) for piece in self.rows]),
            "q_scale": np.concatenate([self._scales(piece) for piece in self.rows]),
        }

    def values(self) -> F32:
        return decode(self.kept(), self.format)[:, : self.shape[-1]]

    def _scales(self, piece: Codes) -> Array:
        dtype = self.format.shapes((1, self.format.group_size))["q_scale"][0]
        scales = values(piece.scales.blocks(0, len(piece)), piece.scales.kind).astype(dtype)
        if not np.isfinite(scales).all():
            raise WeightsError("a scale is not finite", "the file is damaged", "download it again")
        return scales


def _words(piece: Codes) -> U32:
    return np.ascontiguousarray(piece.words[0 : len(piece)]).view("<u4")
