"""Scales, and minima, that round a group of weights with the least error: found by trying some."""

from collections.abc import Iterator

import numpy as np

from kvscape.quantization.arrays import F32, Array, row_blocks
from kvscape.quantization.encode import grouped
from kvscape.quantization.format import Format

# Shares of the scale that reaches a group's farthest weight: a smaller one cuts that off, and is finer for the others.
_SHARES = {3: (0.35, 1.05), 4: (0.35, 1.05), 8: (0.9, 1.01)}
_TRIED = 22


def least_error_constants(weight: F32, fmt: Format, importance: F32 | None = None) -> list[Array]:
    """Return scales, and minima, of the groups of ``weight`` [N, K]: each [N, groups] in the format's own type.

    The error is the sum of |w - rounded|^2.5, which minds the large ones more than squares do, times ``importance`` [K]
    where that is given: the mean squares of the inputs. A scale may be negative: symmetric codes reach one step farther
    up than down (``nearest_codes``), and its sign says which side that is.
    """
    shape = (len(weight), fmt.groups(weight.shape[1]))
    constants = [np.empty(shape, fmt.scale_dtype) for _ in fmt.constants]
    counted = _counted(weight.shape[1], fmt, importance)
    for block in row_blocks(*weight.shape):
        for constant, found in zip(constants, _search(grouped(weight[block], fmt), counted, fmt), strict=True):
            constant[block] = found
    return constants


def _counted(columns: int, fmt: Format, importance: F32 | None) -> F32:
    """[groups, group_size]: how much each column counts; what fills the last group does not."""
    counted = np.zeros(fmt.padded(columns), np.float32)
    counted[:columns] = 1 if importance is None else importance
    return counted.reshape(-1, fmt.group_size)


def _search(groups: F32, counted: F32, fmt: Format) -> list[Array]:
    best: list[Array] = []
    least = np.full(groups.shape[:2], np.inf, np.float32)
    for constants in _candidates(groups, fmt):
        error = _error(groups, counted, constants, fmt)
        better = error < least
        least = np.where(better, error, least)
        best = [np.where(better, new, old) for new, old in zip(constants, best or constants, strict=True)]
    return best


def _candidates(groups: F32, fmt: Format) -> Iterator[list[Array]]:
    low, high = groups.min(-1), groups.max(-1)
    for share in np.linspace(*_SHARES[fmt.bits], _TRIED, dtype=np.float32):
        if fmt.symmetric:
            scale = (share / fmt.max_int * np.maximum(-low, high)).astype(fmt.scale_dtype)
            yield [scale]
            if fmt.top_code > 2 * fmt.max_int:
                yield [-scale]
        else:
            scale = (share / fmt.top_code * (high - low)).astype(fmt.scale_dtype)
            middle, half = (low + high) / 2, np.float32(fmt.top_code / 2)
            yield [scale, (middle - half * scale.astype(np.float32)).astype(fmt.scale_dtype)]


def _error(groups: F32, counted: F32, constants: list[Array], fmt: Format) -> F32:
    scale, *minimum = (constant.astype(np.float32)[..., None] for constant in constants)
    height = groups - minimum[0] if minimum else groups
    zero = np.float32(fmt.max_int if fmt.symmetric else 0)
    steps = np.divide(height, scale, out=np.zeros_like(height), where=scale != 0)
    np.rint(steps, out=steps)
    steps.clip(-zero, fmt.top_code - zero, out=steps)
    steps *= scale
    steps -= height
    np.abs(steps, out=steps)
    steps *= steps * np.sqrt(steps)
    error: F32 = np.einsum("ngk,gk->ng", steps, counted)
    return error
