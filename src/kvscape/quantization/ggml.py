"""GGML's blocks, as GGUF files hold them: their values, and the same codes in our own arrays.

A block is 32 or 256 weights of a row: f16 scales and minima, scales of parts of the block in a few bits, codes. Byte i
of 16 bytes of 4-bit codes holds weight i in its low half and weight i + 16 in its high half.
Source: ggml's ``ggml-common.h`` and ``ggml-quants.c``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import F16, F32, U8
from kvscape.quantization.bfloat16 import bfloat16_values
from kvscape.quantization.format import FORMATS, Format


@dataclass(frozen=True)
class GgmlType:
    """One of GGML's types: how many bytes hold how many weights, and the format that it becomes.

    ``constants`` are the offsets of a block's f16 scales and minima. bfloat16 becomes f32 where ``keeps`` cannot hold
    its values.
    """

    name: str
    number: int
    block_size: int
    block_bytes: int
    keeps: Format
    constants: tuple[int, ...] = ()


_Q4, _Q8 = FORMATS["q4af16_1"], FORMATS["q8f16_1"]
GGML_TYPES: Mapping[str, GgmlType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            GgmlType("F32", 0, 1, 4, FORMATS["f32"]),
            GgmlType("F16", 1, 1, 2, FORMATS["f16"]),
            GgmlType("BF16", 30, 1, 2, FORMATS["f16"]),
            GgmlType("Q4_0", 2, 32, 18, _Q4, (0,)),
            GgmlType("Q4_1", 3, 32, 20, _Q4, (0, 2)),
            GgmlType("Q5_0", 6, 32, 22, _Q8, (0,)),
            GgmlType("Q5_1", 7, 32, 24, _Q8, (0, 2)),
            GgmlType("Q8_0", 8, 32, 34, _Q8, (0,)),
            GgmlType("Q2_K", 10, 256, 84, _Q8, (80, 82)),
            GgmlType("Q3_K", 11, 256, 110, _Q8, (108,)),
            GgmlType("Q4_K", 12, 256, 144, _Q4, (0, 2)),
            GgmlType("Q5_K", 13, 256, 176, _Q8, (0, 2)),
            GgmlType("Q6_K", 14, 256, 210, _Q8, (208,)),
            GgmlType("IQ4_NL", 20, 32, 18, _Q8, (0,)),
            GgmlType("IQ4_XS", 23, 256, 136, _Q8, (0,)),
        )
    }
)


def find_ggml_type(name: str) -> GgmlType:
    """Return a type by GGML's name; raise UnsupportedModelError listing those that can be read."""
    if name not in GGML_TYPES:
        known = ", ".join(GGML_TYPES)
        raise UnsupportedModelError(f"tensor type {name} is not supported", "", f"use a file whose tensors are {known}")
    return GGML_TYPES[name]


def values(raw: U8, kind: GgmlType) -> F32:
    """Return what rows of blocks [N, bytes] stand for, f32 [N, K]: equal, bit for bit, to GGML's own.

    Raises WeightsError if a scale is not finite.
    """
    raw = np.ascontiguousarray(raw)
    if kind.name == "BF16":
        return bfloat16_values(raw.view("<u2"))
    if kind.keeps.is_float:
        return raw.view(f"<f{kind.block_bytes}").astype(np.float32)
    for index in range(len(kind.constants)):
        constants(raw, kind, index)
    result: F32 = dequantize(raw, GGMLQuantizationType(kind.number))
    return result


def blocks(raw: U8, kind: GgmlType) -> U8:
    """Return rows [N, bytes] as [N, blocks, bytes of a block]."""
    return np.ascontiguousarray(raw).reshape(len(raw), -1, kind.block_bytes)


def constants(raw: U8, kind: GgmlType, index: int) -> F16:
    """Return the scale or minimum of each block [N, blocks]; raise WeightsError if one is not finite."""
    at = kind.constants[index]
    return finite(np.ascontiguousarray(blocks(raw, kind)[..., at : at + 2]).view("<f2")[..., 0])


def finite(scales: F16) -> F16:
    """Return ``scales``; raise WeightsError if one is not finite."""
    if not np.isfinite(scales).all():
        raise WeightsError("a scale is not finite", "the file is damaged", "download it again")
    return scales
