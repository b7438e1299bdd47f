"""Round floats to a format, as MLC-LLM does it: in f16, half to even."""

import numpy as np

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F16, F32, U8, Array, row_blocks
from kvscape.quantization.codes import pack_codes
from kvscape.quantization.format import Format


def encode(weight: F32, fmt: Format) -> dict[str, Array]:
    """Return the stored arrays of ``weight`` [N, K]: ``weight``, or ``q_weight``, ``q_scale`` and ``q_min``.

    Raises ConfigError if K does not split into groups, WeightsError if a value does not fit in f16.
    """
    if fmt.is_float:
        return {"weight": weight.astype(np.float32) if fmt.bits == 32 else _half(weight)}
    rows, columns = weight.shape
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in fmt.shapes((rows, columns)).items()}
    for block in row_blocks(rows, columns):
        groups = weight[block].reshape(-1, columns // fmt.group_size, fmt.group_size)
        codes, *constants = _symmetric(groups, fmt) if fmt.symmetric else _asymmetric(groups, fmt)
        arrays["q_weight"][block] = pack_codes(codes.reshape(-1, columns), fmt)
        for name, constant in zip(("q_scale", "q_min"), constants, strict=False):
            arrays[name][block] = constant
    return arrays


def _half(values: Array) -> F16:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise WeightsError(
            "a weight cannot be rounded to f16", "it is not finite or above 65504", "use the quantization q0f32"
        )
    return half


def _symmetric(groups: F32, fmt: Format) -> tuple[U8, F16]:
    """code = round half to even(w / scale + max_int), by the steps in which MLC's codes of 3 and 4 bits come about."""
    half = _half(groups).astype(np.float32)
    scale = _half(np.abs(half).max(-1) / np.float32(fmt.max_int))
    ratio = np.divide(half, scale.astype(np.float32)[..., None], out=half, where=scale[..., None] != 0)
    ratio[scale == 0] = 0
    offset = ratio + np.float32(fmt.max_int) if fmt.bits == 8 else _half_sum(ratio, fmt.max_int)
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
