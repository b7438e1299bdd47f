"""The requests of a run: equal prompts of random ordinary tokens, the same for every machine and subject."""

from collections.abc import Sequence

import numpy as np

from kvscape.config import DesignPoint

# Beside the prompts' own random numbers, which begin with the number of the run.
_ARRIVALS = 2**32


def make_prompts(point: DesignPoint, token_ids: Sequence[int], run: int) -> list[list[int]]:
    """A prompt for each request, drawn from ``token_ids``.

    Every run has its own, so that no run can reuse the pages of an earlier one.
    """
    generator = np.random.default_rng((point.workload.seed, run))
    shape = (point.num_requests, point.workload.prompt_tokens)
    return [[int(token) for token in row] for row in generator.choice(np.asarray(token_ids), shape)]


def arrival_times_s(point: DesignPoint) -> list[float]:
    """Seconds after the start at which each request comes, the first at once.

    The gaps of a Poisson process are exponential. Every run has the same ones, so that runs compare.
    """
    if point.workload.request_rate is None:
        return [0.0] * point.num_requests
    generator = np.random.default_rng((point.workload.seed, _ARRIVALS))
    gaps = generator.exponential(1 / point.workload.request_rate, point.num_requests - 1)
    return [0.0, *np.cumsum(gaps).tolist()]
