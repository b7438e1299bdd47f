"""bfloat16 as a file holds it: its values, and the format that keeps them. One rule for every kind of file."""

from collections.abc import Iterable

import numpy as np

from kvscape.quantization.arrays import F32, U16
from kvscape.quantization.format import FORMATS, Format

# The largest bfloat16 that f16 can hold, 65280; infinities and NaN lie above it.
_LARGEST = 0x477F


def bfloat16_values(bits: U16) -> F32:
    """Return what 16-bit words stand for: the upper halves of f32."""
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


def bfloat16_format(blocks: Iterable[U16]) -> Format:
    """Return f16, which rounds only the smallest of bfloat16's values, or f32 if one of a tensor's is beyond f16.

    Rounding to f16 is exact from 2**-17 to 65280 in size, and convert notes its error.
    """
    fits = all(not block.size or int((block & np.uint16(0x7FFF)).max()) <= _LARGEST for block in blocks)
    return FORMATS["f16" if fits else "f32"]
