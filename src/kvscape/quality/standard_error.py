"""How sure a sum over a text's tokens is, though neighbouring tokens are alike in how hard they are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

BATCHES = 48


def sum_error(parts: Sequence[Vector]) -> float:
    """Standard error of the sum of all values of ``parts``, the residuals of the tokens of each window.

    A token says little that its neighbours did not say, so tokens are no independent draws. Sums of stretches of
    consecutive tokens nearly are: their spread is the error (batch means; Law and Kelton 1984). There are about 48
    stretches, so that correlation over up to a 48th of the text is seen. Where all windows have the same length,
    tokens at the same place of a window are compared with one another: the first ones of each, which have little
    context, are always hard, and that is no chance. Not a number where there are fewer than two values.
    """
    if sum(part.size for part in parts) < 2:
        return float("nan")
    if len(parts) == 1 or len({part.size for part in parts}) > 1:
        return _spread(np.concatenate(parts)[None])
    return _spread(np.stack(parts)) if len(parts) <= BATCHES else _spread(np.array([[part.sum() for part in parts]]))


def _spread(values: Vector) -> float:
    """Error of the sum of [windows, places]: stretches of places, each compared over the windows.

    One row is compared along itself.
    """
    windows, places = values.shape
    if windows == 1:
        sums = _sums(values, min(BATCHES, places)).T
    else:
        sums = _sums(values, min(-(-BATCHES // (windows - 1)), places))
    count = len(sums)
    deviations = sums - sums.mean(axis=0)
    return float(np.sqrt(count / (count - 1) * (deviations**2).sum()))


def _sums(values: Vector, stretches: int) -> Vector:
    starts = np.arange(stretches) * values.shape[1] // stretches
    sums: Vector = np.add.reduceat(values, starts, axis=1)
    return sums
