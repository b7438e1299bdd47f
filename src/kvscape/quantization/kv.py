"""Precisions of the KV cache, in plain numpy: what the append and attention kernels are tested against."""

import numpy as np

from kvscape.quantization.arrays import F16, F32, I8

KV_MAX_INT = 127


def quantize_kv(x: F32) -> tuple[I8, F16]:
    """Return int8 codes [..., head_dim] and f16 scales [...] of ``x`` [..., head_dim]: one scale per token and head.

    scale = max|x| / 127 rounded to f16; code = x / scale, rounded half to even, within -127..127. Where the scale is 0
    (all zeros, or all below what f16 can tell from zero) the codes are 0.
    """
    scale = (np.abs(x).max(-1) / np.float32(KV_MAX_INT)).astype(np.float16)
    divisor = scale.astype(np.float32)[..., None]
    ratio = np.divide(x, divisor, out=np.zeros_like(x, np.float32), where=divisor != 0)
    return np.rint(ratio).clip(-KV_MAX_INT, KV_MAX_INT).astype(np.int8), scale


def dequantize_kv(codes: I8, scale: F16) -> F32:
    """Return codes [..., head_dim] times their scales [...], as f32."""
    return codes.astype(np.float32) * scale.astype(np.float32)[..., None]


def round_kv(x: F32, kv_dtype: str) -> F32:
    """Return what a cache of ``kv_dtype`` (f32, f16 or int8) gives back for ``x`` [..., head_dim]."""
    if kv_dtype == "int8":
        return dequantize_kv(*quantize_kv(x))
    return x.astype({"f32": np.float32, "f16": np.float16}[kv_dtype]).astype(np.float32)
