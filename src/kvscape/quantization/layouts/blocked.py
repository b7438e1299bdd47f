"""Blocks of weight rows side by side, so that one vector instruction serves all rows of a block.

Integer formats, for each block of ``rows`` rows and each group of columns (32, or 40 for 3 bit):
``codes`` 3 bit: [step 4][row][4] bytes, bits 0 to 2 = column 4 step + i, bits 3 to 5 = column 16 + 4 step + i; bits 6
and 7 of steps 0 and 1 = the low two bits of columns 32 + i and 36 + i, whose third bits are bits 6 and 7 of step 2;
``codes`` 4 bit: [step 4][row][4] bytes, low nibble = column 4 step + i, high nibble = column 16 + 4 step + i;
``codes`` 8 bit: [step 8][row][4] bytes, the signed code of column 4 step + i;
``scales``: [scale][row], and [minimum][row] behind it for asymmetric formats, f16 or f32.
Float formats: ``weight`` [block][column][row].
A last group that is not full is as long as the others; what stands in its place means nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvscape.errors import UnsupportedModelError
from kvscape.quantization.arrays import Array
from kvscape.quantization.codes import unpack_codes
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.layout import Shape


@dataclass(frozen=True)
class BlockedLayout:
    """A blocked layout: its name and the rows of one block."""

    name: str
    rows: int

    def shapes(self, fmt: Format, N: int, K: int) -> dict[str, Shape]:
        """Shape and dtype of each packed array of an [N, K] weight; UnsupportedModelError if N has no whole blocks."""
        if N % self.rows:
            raise UnsupportedModelError(
                f"a weight of {N} rows", f"the kernels take blocks of {self.rows}", "use another model"
            )
        if fmt.is_float:
            return {"weight": ((N // self.rows, K, self.rows), f"float{fmt.bits}")}
        groups = N * fmt.groups(K)
        return {
            "codes": ((groups * fmt.words_per_group * 4,), "uint8"),
            "scales": ((groups * len(fmt.constants),), fmt.scale_dtype),
        }

    def pack(self, arrays: Mapping[str, Array], fmt: Format) -> dict[str, Array]:
        """Reorder canonical arrays (``weight``, or ``q_weight`` with ``q_scale`` and ``q_min``)."""
        if fmt.is_float:
            weight = arrays["weight"]
            blocks = weight.reshape(-1, self.rows, weight.shape[1])
            return {"weight": np.ascontiguousarray(blocks.swapaxes(1, 2))}
        codes = unpack_codes(arrays["q_weight"], fmt)
        packed = {3: self._pack3, 4: self._pack4, 8: self._pack8}[fmt.bits](codes, fmt)
        return {"codes": packed, "scales": self._pack_scales([arrays[name] for name in fmt.constants])}

    def _pack3(self, codes: NDArray[np.uint8], fmt: Format) -> Array:
        # axes: block, row, group, step of ten, column of the step
        steps = codes.reshape(-1, self.rows, codes.shape[1] // fmt.group_size, 10, 4)
        words = steps[:, :, :, :4] | (steps[:, :, :, 4:8] << 3)
        words[:, :, :, :2] |= steps[:, :, :, 8:] << 6
        words[:, :, :, 2] |= (steps[:, :, :, 8] >> 2 << 6) | (steps[:, :, :, 9] >> 2 << 7)
        return np.ascontiguousarray(words.transpose(0, 2, 3, 1, 4)).reshape(-1)

    def _pack4(self, codes: NDArray[np.uint8], fmt: Format) -> Array:
        # axes: block, row, group, half (low or high nibble), step, column of the step
        split = codes.reshape(-1, self.rows, codes.shape[1] // fmt.group_size, 2, fmt.group_size // 8, 4)
        both = split[:, :, :, 0] | (split[:, :, :, 1] << 4)
        return np.ascontiguousarray(both.transpose(0, 2, 3, 1, 4)).reshape(-1)

    def _pack8(self, codes: NDArray[np.uint8], fmt: Format) -> Array:
        signed = (codes.astype(np.int16) - fmt.max_int).astype(np.int8).view(np.uint8)
        split = signed.reshape(-1, self.rows, codes.shape[1] // fmt.group_size, fmt.group_size // 4, 4)
        return np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4)).reshape(-1)

    def _pack_scales(self, scales: list[Array]) -> Array:
        stacked = np.stack([scale.reshape(-1, self.rows, scale.shape[1]) for scale in scales])
        return np.ascontiguousarray(stacked.transpose(1, 3, 0, 2)).reshape(-1)
