"""Round floats to a format, as MLC-LLM does it: in the type of the scales, half to even."""

from collections.abc import Callable, Sequence

import numpy as np

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F16, F32, U8, Array, row_blocks
from kvscape.quantization.codes import pack_codes
from kvscape.quantization.format import Format


def encode(weight: F32, fmt: Format) -> dict[str, Array]:
    """Return the stored arrays of ``weight`` [N, K]: ``weight``, or ``q_weight``, ``q_scale`` and ``q_min``.

    Raises WeightsError if a value is not finite or, where the scales are f16, does not fit in f16.
    """
    if fmt.is_float:
        return {"weight": weight.astype(np.float32) if fmt.bits == 32 else _half(weight)}
    rows, columns = weight.shape
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in fmt.shapes((rows, columns)).items()}
    for block in row_blocks(rows, columns):
        codes, *constants = _rounded(grouped(weight[block], fmt), fmt)
        by_row = codes.reshape(-1, fmt.padded(columns))[:, :columns]
        for name, part in encode_codes(by_row, constants, fmt).items():
            arrays[name][block] = part
    return arrays


def encode_codes(codes: U8, constants: Sequence[Array], fmt: Format) -> dict[str, Array]:
    """Return the stored arrays of codes [N, K] whose groups have ``constants``: scales, and minima, [N, groups]."""
    missing = fmt.padded(codes.shape[1]) - codes.shape[1]
    whole = np.pad(codes, ((0, 0), (0, missing))) if missing else codes
    return {"q_weight": pack_codes(whole, fmt), **dict(zip(fmt.constants, constants, strict=True))}


def nearest_codes(weight: F32, constants: Sequence[Array], fmt: Format) -> U8:
    """The codes [N, K] that come nearest to ``weight`` with these constants [N, groups]: half to even, in f32.

    All codes that kernels take are used, one more than MLC-LLM's rounding does (``Format.top_code``).
    """
    group = np.arange(weight.shape[1]) // fmt.group_size
    scale, *minimum = (constant.astype(np.float32)[:, group] for constant in constants)
    height = weight - minimum[0] if minimum else weight
    ratio = np.divide(height, scale, out=np.zeros_like(height), where=scale != 0)
    zero = np.float32(fmt.max_int if fmt.symmetric else 0)
    return np.rint(ratio + zero).clip(0, fmt.top_code).astype(np.uint8)


def grouped(weight: F32, fmt: Format) -> F32:
    """[N, groups, group_size]; the last group is filled with its own last weight, which changes no scale or minimum."""
    missing = fmt.padded(weight.shape[1]) - weight.shape[1]
    whole = np.pad(weight, ((0, 0), (0, missing)), "edge") if missing else weight
    return whole.reshape(len(weight), -1, fmt.group_size)


def _rounded(groups: F32, fmt: Format) -> tuple[Array, ...]:
    """Codes, scales and, where the format has them, minima."""
    if not fmt.symmetric:
        return _asymmetric(groups, fmt)
    return _symmetric(groups, fmt, _half if fmt.scale_dtype == "float16" else _finite)


def _finite(values: F32) -> F32:
    if not np.isfinite(values).all():
        raise WeightsError("a weight cannot be rounded", "it is not finite", "use another file")
    return values


def _half(values: Array) -> F16:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise WeightsError(
            "a weight cannot be rounded to f16", "it is not finite or above 65504", "use the quantization q0f32"
        )
    return half


def _symmetric(groups: F32, fmt: Format, kind: Callable[[F32], Array]) -> tuple[U8, Array]:
    """code = round half to even(w / scale + max_int), by the steps in which MLC's codes of 3 and 4 bits come about."""
    values = kind(groups).astype(np.float32)
    scale = kind(np.abs(values).max(-1) / np.float32(fmt.max_int))
    ratio = np.divide(values, scale.astype(np.float32)[..., None], out=values, where=scale[..., None] != 0)
    ratio[scale == 0] = 0
    in_f32 = fmt.bits == 8 or fmt.scale_dtype == "float32"
    offset = ratio + np.float32(fmt.max_int) if in_f32 else _half_sum(ratio, fmt.max_int)
    return np.rint(offset).clip(0, 2 * fmt.max_int).astype(np.uint8), scale


def _half_sum(ratio: F32, max_int: int) -> F32:
    """MLC rounds ratio and sum to f16. 8-bit codes, which are ours, would lose an eighth of a step to that."""
    return _half(_half(ratio).astype(np.float32) + np.float32(max_int)).astype(np.float32)


def _asymmetric(groups: F32, fmt: Format) -> tuple[U8, F16, F16]:
    lowest, highest, steps = groups.min(-1), groups.max(-1), 2**fmt.bits - 1
    minimum = _half(lowest)
    scale = _half((highest - lowest) / np.float32(steps))
    height = groups - minimum.astype(np.float32)[..., None]
    ratio = np.divide(height, scale.astype(np.float32)[..., None], out=height, where=scale[..., None] != 0)
    ratio[scale == 0] = 0
    return np.rint(ratio).clip(0, steps).astype(np.uint8), scale, minimum
