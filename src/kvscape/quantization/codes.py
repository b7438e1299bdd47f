"""Codes to and from uint32 words: the first code lies in the lowest bits."""

import numpy as np

from kvscape.quantization.arrays import U8, U32
from kvscape.quantization.format import Format


def pack_codes(codes: U8, fmt: Format) -> U32:
    """Pack codes [N, K] into words [N, K * bits / 32]."""
    octets = codes if fmt.bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)
    return np.ascontiguousarray(octets).view("<u4")


def unpack_codes(q_weight: U32, fmt: Format) -> U8:
    """Return the codes [N, K] of words [N, K * bits / 32]."""
    octets = np.ascontiguousarray(q_weight).astype("<u4", copy=False).view(np.uint8)
    if fmt.bits == 8:
        return octets
    codes = np.empty((*octets.shape[:-1], octets.shape[-1] * 2), np.uint8)
    codes[..., 0::2] = octets & 15
    codes[..., 1::2] = octets >> 4
    return codes
