"""GPTQ (Frantar et al. 2022, arXiv 2210.17323): round a matrix column by column, each error made good in the others.

Columns come in the order of their inputs' squares, the largest first ("activation order"); the scales of their groups
are known before ("static groups"), so that the stored format is that of plain rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.quantization.arrays import F32, U8, Array
from kvscape.quantization.format import Format

F64: TypeAlias = npt.NDArray[np.float64]

_BLOCK = 128  # columns between two updates of all that follow


@dataclass(frozen=True, eq=False)
class Influence:
    """What an error in one column asks of those after it: rows of the Cholesky factor of the inverse Hessian, each
    over its diagonal, f32 [K, K], in ``order``."""

    order: npt.NDArray[np.intp]
    rows: F32


def damped(hessian: F64, damping: float) -> F64:
    """``hessian`` with ``damping`` times its mean diagonal added to the diagonal, so that it can be inverted."""
    result = hessian.copy()
    result.flat[:: len(result) + 1] += damping * (float(hessian.diagonal().mean()) or 1.0)
    return result


def influence(hessian: F64) -> Influence:
    """Of inputs x [tokens, K] with ``hessian`` x^T x, ``damped``."""
    order = np.argsort(-hessian.diagonal(), kind="stable")
    ordered = hessian[np.ix_(order, order)]
    # H = R R^T with R upper is the Cholesky factorization of H read backwards; then H^-1 = U^T U with U = R^-1.
    upper = np.linalg.cholesky(ordered[::-1, ::-1]).astype(np.float64, copy=False)[::-1, ::-1]
    factor = _inverse(upper)
    return Influence(order, (factor / factor.diagonal()[:, None]).astype(np.float32))


def _inverse(upper: F64) -> F64:
    """Of an upper triangular matrix, half by half: all but the smallest pieces are products."""
    size = len(upper)
    if size <= _BLOCK:
        return np.triu(np.linalg.inv(upper))
    half, result = size // 2, np.zeros_like(upper)
    result[:half, :half], result[half:, half:] = _inverse(upper[:half, :half]), _inverse(upper[half:, half:])
    result[:half, half:] = -result[:half, :half] @ upper[:half, half:] @ result[half:, half:]
    return result


def gptq_codes(weight: F32, constants: Sequence[Array], fmt: Format, influence: Influence) -> U8:
    """Return codes [N, K] of ``weight`` with these ``constants`` [N, groups]; rows do not depend on each other."""
    order, rows = influence.order, influence.rows
    columns = np.ascontiguousarray(weight.T[order])  # a column lies in one piece
    scale, *minimum = (np.ascontiguousarray(constant.T, np.float32) for constant in constants)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    zero = np.float32(fmt.max_int if fmt.symmetric else 0)
    codes = np.empty(columns.shape, np.uint8)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        errors = np.zeros((stop - start, columns.shape[1]), np.float32)
        for at in range(start, stop):
            group = order[at] // fmt.group_size
            wanted = columns[at] - rows[start:at, at] @ errors[: at - start]
            height = wanted - minimum[0][group] if minimum else wanted
            code = np.rint(height * inverse[group] + zero).clip(0, fmt.top_code)
            codes[at] = code
            errors[at - start] = height - (code - zero) * scale[group]
        columns[stop:] -= rows[start:stop, stop:].T @ errors
    result = np.empty(weight.shape, np.uint8)
    result[:, order] = codes.T
    return result
