"""Codes to and from uint32 words: the first code lies in the lowest bits."""

import numpy as np

from kvscape.quantization.arrays import U8, U32
from kvscape.quantization.format import Format


def pack_codes(codes: U8, fmt: Format) -> U32:
    """Pack codes [N, K], whole groups, into words [N, K / codes_per_word]."""
    if 8 % fmt.bits:
        by_word = codes.reshape(*codes.shape[:-1], -1, fmt.codes_per_word).astype("<u4")
        words: U32 = np.bitwise_or.reduce(by_word << _shifts(fmt), axis=-1)
        return words
    octets = codes if fmt.bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)
    return np.ascontiguousarray(octets).view("<u4")


def unpack_codes(q_weight: U32, fmt: Format) -> U8:
    """Return the codes [N, K] of words [N, K / codes_per_word]."""
    if 8 % fmt.bits:
        by_word = (q_weight[..., None] >> _shifts(fmt)) & np.uint32(2**fmt.bits - 1)
        return by_word.astype(np.uint8).reshape(*q_weight.shape[:-1], -1)
    octets = np.ascontiguousarray(q_weight).astype("<u4", copy=False).view(np.uint8)
    if fmt.bits == 8:
        return octets
    codes = np.empty((*octets.shape[:-1], octets.shape[-1] * 2), np.uint8)
    codes[..., 0::2] = octets & 15
    codes[..., 1::2] = octets >> 4
    return codes


def _shifts(fmt: Format) -> U32:
    """Where the codes of a word begin."""
    return np.arange(fmt.codes_per_word, dtype=np.uint32) * np.uint32(fmt.bits)
