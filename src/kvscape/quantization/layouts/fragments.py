"""The order of NVIDIA's tensor cores: what the 32 lanes of a warp load at once lies side by side, 16 bytes for each.

A block has 16 rows, and a chunk four groups of columns (32 each, 40 for 3 bit, 32 for f16). Lane 4 g + t has the group
t of the rows g and g + 8:
``codes``  [block][chunk][load][row g, row g + 8][lane] 16 bytes; a group takes 1, 2 or 4 loads (4 and 3, 8, 16 bit). A
word of 32 bits has pairs of neighbouring codes, one code in each half of it: 4 bit: pair p from bit 4 p on, 3 bit: pair
p from bit 3 p on; 8 bit: four codes plus 127, one in each byte; f16: one pair, the numbers themselves.
``scales`` [block][chunk][scale, minimum][lane][row g, row g + 8] f16; minima for asymmetric formats only.
Columns are filled up to whole chunks: with codes and scales that are 0, so with weights that are 0.
Weights and scales that are f32 become f16 here: that is what tensor cores multiply.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvscape.errors import UnsupportedModelError
from kvscape.quantization.arrays import F16, Array
from kvscape.quantization.codes import unpack_codes
from kvscape.quantization.format import Format
from kvscape.quantization.layouts.layout import Shape

_LANES, _WORDS, _LANE_GROUPS = 32, 4, 4
_FLOAT_GROUP = 32


@dataclass(frozen=True)
class FragmentLayout:
    """Packed for matrix products of 16 rows by 16 columns."""

    name: str = "fragments"
    rows: int = 16

    def shapes(self, fmt: Format, N: int, K: int) -> dict[str, Shape]:
        """Shape and dtype of each packed array of an [N, K] weight; UnsupportedModelError if it has no whole blocks."""
        if N % self.rows or K % 8:
            what, why = f"a weight of {N} x {K}", f"the CUDA kernels take {self.rows} rows by 8 columns at once"
            raise UnsupportedModelError(what, why, "use another model")
        units = N // self.rows * chunks(fmt, K)
        codes: dict[str, Shape] = {"codes": ((units * loads(fmt) * 2 * _LANES * 4 * _WORDS,), "uint8")}
        scales: dict[str, Shape] = {"scales": ((units * len(fmt.constants) * 2 * _LANES,), "float16")}
        return codes if fmt.is_float else codes | scales

    def pack(self, arrays: Mapping[str, Array], fmt: Format) -> dict[str, Array]:
        """Reorder canonical arrays of whole blocks of rows; UnsupportedModelError for numbers beyond f16's range."""
        if fmt.is_float:
            bits = np.ascontiguousarray(_halves(arrays["weight"])).view(np.uint16)
            return {"codes": self._fragments(_filled(bits, fmt), fmt)}
        codes = unpack_codes(arrays["q_weight"], fmt)
        return {
            "codes": self._fragments(_filled(codes, fmt), fmt),
            "scales": self._scales([_halves(arrays[name]) for name in fmt.constants]),
        }

    def _fragments(self, codes: Array, fmt: Format) -> Array:
        # axes: block, row g or g + 8, g, chunk, t, load, word, code of the word
        size = group_size(fmt) // (loads(fmt) * _WORDS)
        parts = codes.reshape(-1, 2, 8, codes.shape[1] // (_LANE_GROUPS * group_size(fmt)), 4, loads(fmt), _WORDS, size)
        words = _words(parts.astype(np.uint32), fmt)
        return np.ascontiguousarray(words.transpose(0, 3, 5, 1, 2, 4, 6)).reshape(-1).view(np.uint8)

    def _scales(self, constants: list[Array]) -> Array:
        missing = -constants[0].shape[1] % _LANE_GROUPS
        stacked = np.stack([np.pad(array, ((0, 0), (0, missing))) for array in constants])
        # axes: scale or minimum, block, row g or g + 8, g, chunk, t
        parts = stacked.reshape(len(constants), -1, 2, 8, stacked.shape[2] // _LANE_GROUPS, _LANE_GROUPS)
        return np.ascontiguousarray(parts.transpose(1, 4, 0, 3, 5, 2)).reshape(-1)


def group_size(fmt: Format) -> int:
    """Columns of what one lane has of a row."""
    return _FLOAT_GROUP if fmt.is_float else fmt.group_size


def chunks(fmt: Format, K: int) -> int:
    """Chunks of a row of ``K`` columns."""
    return -(-K // (_LANE_GROUPS * group_size(fmt)))


def loads(fmt: Format) -> int:
    """Loads of 16 bytes that a group takes."""
    return {3: 1, 4: 1, 8: 2, 16: 4}[_bits(fmt)]


def _bits(fmt: Format) -> int:
    """Of a weight, as it is packed."""
    return 16 if fmt.is_float else fmt.bits


def _halves(numbers: Array) -> F16:
    with np.errstate(over="ignore"):
        halves: F16 = numbers.astype(np.float16)
    if np.isinf(halves).any():
        what, why = "weights beyond 65504", "the CUDA kernels multiply f16 numbers"
        raise UnsupportedModelError(what, why, "use --device cpu")
    return halves


def _filled(codes: Array, fmt: Format) -> Array:
    whole = _LANE_GROUPS * group_size(fmt)
    return np.pad(codes, ((0, 0), (0, -codes.shape[1] % whole)))


def _words(parts: NDArray[np.uint32], fmt: Format) -> NDArray[np.uint32]:
    """The codes of the last axis as one word."""
    size = parts.shape[-1]
    place = np.arange(size)
    step = {3: place // 2 * 3 + place % 2 * 16, 4: place // 2 * 4 + place % 2 * 16, 8: place * 8, 16: place * 16}
    words: NDArray[np.uint32] = np.bitwise_or.reduce(parts << step[_bits(fmt)].astype(np.uint32), axis=-1)
    return words
