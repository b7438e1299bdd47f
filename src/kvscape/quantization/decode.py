"""What stored arrays mean, as f32."""

from collections.abc import Mapping

import numpy as np

from kvscape.quantization.arrays import F32, Array, row_blocks
from kvscape.quantization.codes import unpack_codes
from kvscape.quantization.format import Format


def decode(arrays: Mapping[str, Array], fmt: Format, columns: int | None = None) -> F32:
    """Return the weights [N, K] that ``arrays`` (as ``encode`` returns them) stand for.

    ``columns`` is K where the last group is not full; without it every code is a weight.
    """
    if fmt.is_float:
        return arrays["weight"].astype(np.float32)
    rows, words = arrays["q_weight"].shape
    columns = words * fmt.codes_per_word if columns is None else columns
    result = np.empty((rows, columns), np.float32)
    for block in row_blocks(*result.shape):
        result[block] = _decode_rows({name: array[block] for name, array in arrays.items()}, fmt)[:, :columns]
    return result


def _decode_rows(arrays: Mapping[str, Array], fmt: Format) -> F32:
    codes = unpack_codes(arrays["q_weight"], fmt).astype(np.float32)
    groups = codes.reshape(*arrays["q_scale"].shape, fmt.group_size)
    scale = arrays["q_scale"].astype(np.float32)[..., None]
    if fmt.symmetric:
        values = (groups - np.float32(fmt.max_int)) * scale
    else:
        values = groups * scale + arrays["q_min"].astype(np.float32)[..., None]
    return values.reshape(codes.shape)


def relative_error(original: F32, arrays: Mapping[str, Array], fmt: Format) -> float:
    """Return the squared error of ``arrays`` against ``original`` [N, K], divided by the squares of the original."""
    error = square = 0.0
    for block in row_blocks(len(original), original.size // max(1, len(original))):
        part = {name: array[block] for name, array in arrays.items()}
        difference = decode(part, fmt, original.shape[-1]) - original[block]
        error += float(np.square(difference, dtype=np.float64).sum())
        square += float(np.square(original[block], dtype=np.float64).sum())
    return error / square if square else error
