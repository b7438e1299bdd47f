"""Precisions of the KV cache, in plain numpy: what the append and attention kernels are tested against.

``x`` is [tokens, heads, head_dim] f32. fp8 is e4m3 (Micikevicius et al. 2022, arXiv 2209.05433) and has no scales.
int8 keeps one scale for each token and head, int4 values scale and minimum. int8 keys and int4 values are rotated, so
that no dimension stands out (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456). int4 keys, whose outliers are whole
dimensions, keep scale and minimum for each dimension of 16 tokens (KIVI, Liu et al. 2024, arXiv 2402.02750).
"""

import numpy as np

from kvscape.config.precision import KEY_GROUP
from kvscape.quantization.arrays import F16, F32, I8, U8

INT8_MAX = 127
INT4_STEPS = 15
FP8_MAX = 448.0
_FP8_SUBNORMAL, _FP8_MANTISSA_BITS = -6, 3  # the exponent of the smallest normal number


def quantize_int8(x: F32) -> tuple[I8, F16]:
    """Return codes [..., n] and f16 scales [...] of ``x`` [..., n].

    scale = max|x| / 127 rounded to f16; code = x / scale, rounded half to even, within -127..127. Where the scale is 0
    (all zeros, or all below what f16 can tell from zero) the codes are 0.
    """
    scale = (np.abs(x).max(-1) / np.float32(INT8_MAX)).astype(np.float16)
    return np.rint(_ratio(x, scale)).clip(-INT8_MAX, INT8_MAX).astype(np.int8), scale


def dequantize_int8(codes: I8, scale: F16) -> F32:
    """Return codes [..., n] times their scales [...], as f32."""
    return codes.astype(np.float32) * scale.astype(np.float32)[..., None]


def quantize_int4(x: F32) -> tuple[U8, F16, F16]:
    """Return codes 0 to 15 [..., n], f16 scales and f16 minimums [...] of ``x`` [..., n].

    minimum = min x rounded to f16; scale = (max x - minimum) / 15 rounded to f16; code = (x - minimum) / scale, rounded
    half to even; 0 where the scale is 0.
    """
    minimum = x.min(-1).astype(np.float16)
    scale = ((x.max(-1) - minimum.astype(np.float32)) / np.float32(INT4_STEPS)).astype(np.float16)
    ratio = _ratio(x - minimum.astype(np.float32)[..., None], scale)
    return np.rint(ratio).clip(0, INT4_STEPS).astype(np.uint8), scale, minimum


def dequantize_int4(codes: U8, scale: F16, minimum: F16) -> F32:
    """Return codes [..., n] times their scales [...] plus their minimums [...], as f32."""
    return codes * scale.astype(np.float32)[..., None] + minimum.astype(np.float32)[..., None]


def _ratio(x: F32, scale: F16) -> F32:
    divisor = scale.astype(np.float32)[..., None]
    return np.divide(x, divisor, out=np.zeros_like(x, np.float32), where=divisor > 0)


def rotation_size(dim: int) -> int:
    """Dimensions that are rotated together: the largest power of two that divides ``dim``."""
    return dim & -dim


def rotate(x: F32) -> F32:
    """Multiply ``x`` [..., dim] by a Hadamard matrix (Sylvester's) of unit length, which is its own inverse."""
    size = rotation_size(x.shape[-1])
    y, width = x.astype(np.float32), 1
    while width < size:
        pairs = y.reshape(*x.shape[:-1], -1, 2, width)
        y = np.stack([pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]], -2)
        width *= 2
    return (y * np.float32(size**-0.5)).reshape(x.shape)


def round_keys(x: F32, dtype: str) -> F32:
    """Return what a cache gives back for keys; int4 keys of an unfinished group are in f16."""
    if dtype == "int8":
        return rotate(round_tokens(rotate(x), dtype))
    if dtype != "int4":
        return round_tokens(x, dtype)
    y, whole = round_keys(x, "f16"), len(x) // KEY_GROUP * KEY_GROUP
    groups = y[:whole].reshape(-1, KEY_GROUP, *x.shape[1:])
    rounded = dequantize_int4(*quantize_int4(np.moveaxis(groups, 1, -1)))
    y[:whole] = np.moveaxis(rounded, -1, 1).reshape(whole, *x.shape[1:])
    return y


def round_values(x: F32, dtype: str) -> F32:
    """Return what a cache gives back for values."""
    if dtype != "int4":
        return round_tokens(x, dtype)
    return rotate(dequantize_int4(*quantize_int4(rotate(x))))


def round_fp8(x: F32) -> F32:
    """Return the nearest e4m3 numbers, the even ones of two; 448 is the largest."""
    clipped = x.astype(np.float32).clip(-FP8_MAX, FP8_MAX)
    exponent = np.maximum(np.frexp(clipped)[1] - 1, _FP8_SUBNORMAL)
    step = np.ldexp(np.float32(1), exponent - _FP8_MANTISSA_BITS)
    rounded: F32 = np.rint(clipped / step) * step
    return rounded


def round_tokens(x: F32, dtype: str) -> F32:
    """Return ``x`` as f32, f16, fp8 or int8 tokens keep it, not rotated."""
    if dtype == "fp8":
        return round_fp8(x)
    if dtype == "int8":
        return dequantize_int8(*quantize_int8(x))
    return x.astype({"f32": np.float32, "f16": np.float16}[dtype]).astype(np.float32)
