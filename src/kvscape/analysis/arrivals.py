"""Times of requests that come by chance."""

import numpy as np

# The stream of random numbers beside those of prompts and lengths, which begin with the number of a run.
_ARRIVALS = 2**32


def poisson_times_s(rate_per_s: float, count: int, seed: int) -> list[float]:
    """Seconds after the start at which requests come, the first at once: the gaps of a Poisson process.

    A seed has the same times in every run, so that runs compare.
    """
    gaps = np.random.default_rng((seed, _ARRIVALS)).exponential(1 / rate_per_s, max(0, count - 1))
    return [0.0, *np.cumsum(gaps).tolist()]
