"""The requests of a run: equal prompts of random ordinary tokens, the same for every machine and subject."""

from collections.abc import Sequence

import numpy as np

from kvscape.analysis.arrivals import poisson_times_s
from kvscape.config import DesignPoint


def make_prompts(point: DesignPoint, token_ids: Sequence[int], run: int) -> list[list[int]]:
    """A prompt for each request, drawn from ``token_ids``.

    Every run has its own, so that no run can reuse the pages of an earlier one.
    """
    generator = np.random.default_rng((point.workload.seed, run))
    shape = (point.num_requests, point.workload.prompt_tokens)
    return [[int(token) for token in row] for row in generator.choice(np.asarray(token_ids), shape)]


def arrival_times_s(point: DesignPoint) -> list[float]:
    """Seconds after the start at which each request comes."""
    rate, count = point.workload.request_rate, point.num_requests
    return [0.0] * count if rate is None else poisson_times_s(rate, count, point.workload.seed)
