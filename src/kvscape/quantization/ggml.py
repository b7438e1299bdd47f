"""GGML's blocks, as GGUF files hold them: the same codes in our own arrays, and their values.

A block is 32 weights of a row. Q4_0: f16 scale, 16 bytes of codes; Q4_1: f16 scale, f16 minimum, 16 bytes; Q8_0: f16
scale, 32 signed bytes. Byte i of 4-bit codes holds weight i in its low half and weight i + 16 in its high half.
Source: ggml's ``ggml-common.h`` and ``ggml-quants.c``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import F16, F32, U8, Array, Mask, row_blocks
from kvscape.quantization.codes import pack_codes
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS, Format


@dataclass(frozen=True)
class GgmlType:
    """One of GGML's types: how many bytes hold how many weights, and the format that keeps them as they are."""

    name: str
    number: int
    block_size: int
    block_bytes: int
    keeps: Format


GGML_TYPES: Mapping[str, GgmlType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            GgmlType("F32", 0, 1, 4, FORMATS["f32"]),
            GgmlType("F16", 1, 1, 2, FORMATS["f16"]),
            GgmlType("Q4_0", 2, 32, 18, FORMATS["q4af16_1"]),
            GgmlType("Q4_1", 3, 32, 20, FORMATS["q4af16_1"]),
            GgmlType("Q8_0", 8, 32, 34, FORMATS["q8f16_1"]),
        )
    }
)


def find_ggml_type(name: str) -> GgmlType:
    """Return a type by GGML's name; raise UnsupportedModelError listing those that can be read."""
    if name not in GGML_TYPES:
        known = ", ".join(GGML_TYPES)
        raise UnsupportedModelError(f"tensor type {name} is not supported", "", f"use a file whose tensors are {known}")
    return GGML_TYPES[name]


def keeps_codes(raw: U8, kind: GgmlType) -> bool:
    """Say whether ``kept`` changes no value: only Q8_0 has a code, -128, that q8f16_1 has not."""
    return kind.name != "Q8_0" or not _has_lowest_code(raw).any()


def kept(raw: U8, kind: GgmlType) -> dict[str, Array]:
    """Return rows of blocks [N, bytes] as the arrays of ``kind.keeps``, code for code.

    A Q8_0 block with the code -128 is rounded to a new scale. Raises WeightsError if a scale is not finite.
    """
    if kind.keeps.is_float:
        return {"weight": np.ascontiguousarray(raw).view(f"<f{kind.block_bytes}").copy()}
    rows, columns = len(raw), raw.shape[-1] // kind.block_bytes * kind.block_size
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in kind.keeps.shapes((rows, columns)).items()}
    for rows_here in row_blocks(rows, columns):
        for name, part in _kept_rows(raw[rows_here], kind).items():
            arrays[name][rows_here] = part
    return arrays


def values(raw: U8, kind: GgmlType) -> F32:
    """Return what rows of blocks [N, bytes] stand for, f32 [N, K]: equal, bit for bit, to GGML's own."""
    if kind.keeps.is_float:
        return np.ascontiguousarray(raw).view(f"<f{kind.block_bytes}").astype(np.float32)
    scale, codes = _scales(raw, kind, 0)[..., None].astype(np.float32), _codes(raw, kind)
    if kind.name == "Q8_0":
        result = codes.view(np.int8) * scale
    elif kind.name == "Q4_0":
        result = (codes.astype(np.float32) - np.float32(8)) * scale
    else:
        result = codes * scale + _scales(raw, kind, 2)[..., None].astype(np.float32)
    return result.reshape(len(raw), -1)


def _kept_rows(raw: U8, kind: GgmlType) -> dict[str, Array]:
    if kind.name == "Q8_0":
        return _kept_q8_0(raw, kind)
    scale = _scales(raw, kind, 0)
    minimum = _lowest_q4_0(scale) if kind.name == "Q4_0" else _scales(raw, kind, 2)
    return {"q_weight": _words(_codes(raw, kind), kind.keeps), "q_scale": scale, "q_min": minimum}


def _kept_q8_0(raw: U8, kind: GgmlType) -> dict[str, Array]:
    codes = _codes(raw, kind).view(np.int8)
    # -128 wraps around here; its blocks are rounded below.
    arrays = {"q_weight": _words((codes + np.int8(127)).view(np.uint8), kind.keeps), "q_scale": _scales(raw, kind, 0)}
    out_of_range = _has_lowest_code(raw)
    if out_of_range.any():
        rounded = encode(values(raw, kind).reshape(-1, kind.block_size)[out_of_range.ravel()], kind.keeps)
        arrays["q_scale"][out_of_range] = rounded["q_scale"][:, 0]
        by_group = arrays["q_weight"].reshape(*out_of_range.shape, -1)
        by_group[out_of_range] = rounded["q_weight"]
    return arrays


def _lowest_q4_0(scale: F16) -> F16:
    with np.errstate(over="ignore"):
        return _finite(scale * np.float16(-8))  # exact: a power of two


def _blocks(raw: U8, kind: GgmlType) -> U8:
    return np.ascontiguousarray(raw).reshape(len(raw), -1, kind.block_bytes)


def _scales(raw: U8, kind: GgmlType, at: int) -> F16:
    return _finite(np.ascontiguousarray(_blocks(raw, kind)[..., at : at + 2]).view("<f2")[..., 0])


def _finite(constants: F16) -> F16:
    if not np.isfinite(constants).all():
        raise WeightsError("a scale is not finite", "the file is damaged", "download it again")
    return constants


def _codes(raw: U8, kind: GgmlType) -> U8:
    octets = _blocks(raw, kind)[..., {"Q4_0": 2, "Q4_1": 4, "Q8_0": 2}[kind.name] :]
    return octets if kind.name == "Q8_0" else np.concatenate([octets & 15, octets >> 4], axis=-1)


def _words(codes: U8, fmt: Format) -> Array:
    return pack_codes(codes.reshape(len(codes), -1), fmt)


def _has_lowest_code(raw: U8) -> Mask:
    lowest: Mask = (_codes(raw, GGML_TYPES["Q8_0"]) == 0x80).any(-1)
    return lowest
