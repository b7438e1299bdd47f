"""How sure a measured level is, and from which run on it is one."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
# A run this much slower than the later ones is no accident of the clock.
WARM_UP_EXCESS = 0.10


def median_interval(
    runs: ArrayLike,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
    repeats: Sequence[int] = (),
) -> tuple[float, float]:
    """Interval of the median by the percentile bootstrap (Efron 1979); ``runs`` is [runs] or [runs, streams].

    Runs are drawn whole, since streams that ran together are not independent. Of few runs it is all they span, which
    holds the true median less often than ``confidence`` says: of three runs in 3 of 4 cases, of six in 31 of 32.
    ``repeats`` says how many runs followed each other at each of several times: a time is drawn first, then its runs,
    since the runs of one time are more alike than those of another.
    """
    values, random = np.asarray(runs, np.float64), np.random.default_rng(seed)
    drawn = _places(repeats or [len(values)], resamples, random)
    medians = np.median(values[drawn].reshape(resamples, -1), axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(medians, (tail, 100 - tail))
    return float(low), float(high)


def _places(repeats: Sequence[int], resamples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """[resamples, runs]: which runs are drawn."""
    sizes = np.asarray(repeats)
    if len(sizes) == 1:
        return random.integers(sizes[0], size=(resamples, sizes[0]))
    chosen = random.integers(len(sizes), size=(resamples, len(sizes)))[..., None]
    within = random.random((resamples, len(sizes), int(sizes.max()))) * sizes[chosen]
    places: NDArray[np.int64] = (np.cumsum(sizes) - sizes)[chosen] + within.astype(np.int64)
    return places.reshape(resamples, -1)


def relative_width(interval: tuple[float, float]) -> float:
    """Half of an interval as a share of its middle: 0.03 is +-3 %."""
    low, high = interval
    return (high - low) / (high + low) if high + low else math.inf


def warm_up_runs(times_s: Sequence[float], excess: float = WARM_UP_EXCESS) -> int:
    """Leading runs that are no sample of the level: caches, clocks and threads were still warming up.

    The first always is. A later one is while it takes longer than every run after it, and by more than ``excess`` than
    their median; at most half of all runs are dropped.
    """
    dropped = 1
    while dropped < len(times_s) // 2:
        later = times_s[dropped + 1 :]
        if times_s[dropped] <= max(max(later), (1 + excess) * float(np.median(later))):
            break
        dropped += 1
    return dropped
