"""A tensor with a constant added to every value."""

from dataclasses import dataclass

import numpy as np

from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.format import FORMATS, Format
from kvscape.weights.source import SourceTensor


@dataclass(frozen=True)
class OffsetTensor:
    """``tensor`` plus ``offset``, in f32: a ``SourceTensor``. Gemma multiplies by one more than its norms hold."""

    tensor: SourceTensor
    offset: float
    is_exact: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def format(self) -> Format:
        return FORMATS["f32"]

    def kept(self) -> dict[str, Array]:
        return {"weight": self.values()}

    def values(self) -> F32:
        return self.tensor.values() + np.float32(self.offset)

    def part(self, rows: slice) -> "OffsetTensor":
        return OffsetTensor(self.tensor.part(rows), self.offset)
