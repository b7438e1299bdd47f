"""Blocks of weight rows side by side, so that one vector instruction serves all rows of a block.

Integer formats, for each block of ``rows`` rows and each group of 32 columns:
``codes`` 4 bit: [step 4][row][4] bytes, low nibble = column 4 step + i, high nibble = column 16 + 4 step + i;
``codes`` 8 bit: [step 8][row][4] bytes, the signed code of column 4 step + i;
``scales``: [scale][row], and [minimum][row] behind it for asymmetric formats, f16.
Float formats: ``weight`` [block][column][row].
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvscape.errors import UnsupportedModelError
from kvscape.quantization.arrays import Array
from kvscape.quantization.codes import unpack_codes
from kvscape.quantization.format import Format

Shape = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class Layout:
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
        groups = N // self.rows * (K // fmt.group_size)
        parts = 1 if fmt.symmetric else 2
        return {
            "codes": ((groups * self.rows * fmt.group_size * fmt.bits // 8,), "uint8"),
            "scales": ((groups * parts * self.rows,), "float16"),
        }

    def pack(self, arrays: Mapping[str, Array], fmt: Format) -> dict[str, Array]:
        """Reorder canonical arrays (``weight``, or ``q_weight`` with ``q_scale`` and ``q_min``)."""
        if fmt.is_float:
            weight = arrays["weight"]
            blocks = weight.reshape(-1, self.rows, weight.shape[1])
            return {"weight": np.ascontiguousarray(blocks.swapaxes(1, 2))}
        codes = unpack_codes(arrays["q_weight"], fmt)
        scales = [arrays[name] for name in ("q_scale", "q_min") if name in arrays]
        packed = self._pack8(codes, fmt) if fmt.bits == 8 else self._pack4(codes, fmt)
        return {"codes": packed, "scales": self._pack_scales(scales)}

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


LAYOUTS = {layout.name: layout for layout in (Layout("rows8", 8), Layout("rows16", 16))}
