"""How much a point is expected to add to the hypervolume of what is measured (Emmerich et al. 2006)."""

from collections.abc import Sequence
from math import erf

import numpy as np
from numpy.typing import NDArray

from kvscape.study.hypervolume import front
from kvscape.study.search.surrogate import Belief

Array = NDArray[np.float64]
_erf = np.vectorize(erf, otypes=[np.float64])
_AXES = "abcdefgh"


def expected_improvement(beliefs: Sequence[Belief], measured: Array, reference: Array) -> Array:
    """For each point, given what is believed of each objective and the measured costs, [points, objectives].

    The space below the reference is cut into boxes at the front's values. What a point adds is its part of those boxes
    which nothing dominates yet; the expectation is a product over the objectives, which do not depend on each other.
    """
    best = front(measured[np.all(measured < reference, axis=1)])
    bounds = [np.append(np.unique(best[:, axis]), reference[axis]) for axis in range(len(beliefs))]
    lengths = [_expected_lengths(belief, bound) for belief, bound in zip(beliefs, bounds, strict=True)]
    letters = _AXES[: len(beliefs)]
    terms = ",".join(f"n{letter}" for letter in letters)
    return np.asarray(np.einsum(f"{terms},{letters}->n", *lengths, _open_boxes(best, bounds), optimize=True))


def _open_boxes(best: Array, bounds: Sequence[Array]) -> Array:
    """1 for each box that no point of the front dominates; the first box of an axis has no lower end."""
    lower = [np.append(-np.inf, bound[:-1]) for bound in bounds]
    open_ = np.ones([len(bound) for bound in bounds])
    for point in best:
        covered = [starts >= value for starts, value in zip(lower, point, strict=True)]
        open_[np.ix_(*covered)] = 0
    return open_


def _expected_lengths(belief: Belief, bounds: Array) -> Array:
    """E[max(0, upper - max(lower, y))] of each box of one axis, [points, boxes]."""
    distance = (bounds[None, :] - belief.mean[:, None]) / belief.deviation[:, None]
    density = np.exp(-0.5 * np.square(distance)) / np.sqrt(2 * np.pi)
    below = 0.5 * (1 + _erf(distance / np.sqrt(2)))
    expected = belief.deviation[:, None] * (distance * below + density)
    return np.diff(expected, prepend=0.0, axis=1)
