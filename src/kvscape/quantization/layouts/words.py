"""The order in which WebGPU's kernels read: 16 rows side by side, and of each row four words at a time.

``codes``  [block of 16 rows][group][load][row] 16 bytes. Columns lie in groups of 32 (40 for 3 bit); a group takes 1,
2, 4 or 8 loads (4 and 3, 8, 16, 32 bit). Word c of a load has its columns 4 j + c from bit ``bits`` j on: codes, or the
numbers themselves.
``scales`` [block][group][row], in asymmetric formats with the minimum behind each, f16 or f32.
Columns are filled up to whole groups with codes and constants that mean nothing.
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

ROWS = 16
_WORDS, _COLUMNS = 4, 4
_FLOAT_GROUP = 32


@dataclass(frozen=True)
class WordLayout:
    """Packed for shaders that read 16 bytes at once and know no type smaller than 32 bits."""

    name: str = "words"
    rows: int = ROWS

    def shapes(self, fmt: Format, N: int, K: int) -> dict[str, Shape]:
        """Shape and dtype of each packed array of an [N, K] weight; UnsupportedModelError if there are no kernels."""
        if N % ROWS or K % _COLUMNS:
            what, why = f"a weight of {N} x {K}", f"the kernels take {ROWS} rows by {_COLUMNS} columns at once"
            raise UnsupportedModelError(what, why, "use another model")
        units = groups(fmt, K) * ROWS
        codes: dict[str, Shape] = {"codes": ((N // ROWS, units * loads(fmt) * 4 * _WORDS), "uint8")}
        scales: dict[str, Shape] = {"scales": ((N // ROWS, units * len(fmt.constants)), fmt.scale_dtype)}
        return codes if fmt.is_float else codes | scales

    def pack(self, arrays: Mapping[str, Array], fmt: Format) -> dict[str, Array]:
        """Reorder canonical arrays of whole blocks of rows."""
        if fmt.is_float:
            weight = np.ascontiguousarray(arrays["weight"], f"float{fmt.bits}")
            return {"codes": _words(_filled(weight.view(f"uint{fmt.bits}"), fmt), fmt)}
        stacked = np.stack([arrays[name] for name in fmt.constants], -1)
        # axes: block, row, group, scale or minimum
        parts = stacked.reshape(-1, ROWS, *stacked.shape[1:]).swapaxes(1, 2)
        return {
            "codes": _words(_filled(unpack_codes(arrays["q_weight"], fmt), fmt), fmt),
            "scales": np.ascontiguousarray(parts).reshape(len(parts), -1),
        }


def group_size(fmt: Format) -> int:
    """Columns that lie together."""
    return _FLOAT_GROUP if fmt.is_float else fmt.group_size


def groups(fmt: Format, K: int) -> int:
    """Groups of a row of ``K`` columns, the last of them perhaps in part."""
    return -(-K // group_size(fmt))


def loads(fmt: Format) -> int:
    """Loads of 16 bytes that a group takes."""
    return {3: 1, 4: 1, 8: 2, 16: 4, 32: 8}[fmt.bits]


def _filled(codes: Array, fmt: Format) -> Array:
    return np.pad(codes, ((0, 0), (0, -codes.shape[1] % group_size(fmt))))


def _words(codes: Array, fmt: Format) -> NDArray[np.uint8]:
    # axes: block, row, group, load, step j, word c
    parts = codes.reshape(len(codes) // ROWS, ROWS, codes.shape[1] // group_size(fmt), loads(fmt), -1, _WORDS)
    shifts = np.arange(parts.shape[4], dtype=np.uint32)[:, None] * np.uint32(fmt.bits % 32)
    words = np.bitwise_or.reduce(parts.astype("<u4") << shifts, axis=4)
    packed: NDArray[np.uint8] = np.ascontiguousarray(words.transpose(0, 2, 3, 1, 4)).view(np.uint8)
    return packed.reshape(len(packed), -1)
