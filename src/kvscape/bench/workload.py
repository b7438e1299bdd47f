"""The prompts of a run: equal lengths, random ordinary tokens, the same for every machine and subject."""

from collections.abc import Sequence

import numpy as np

from kvscape.config import DesignPoint


def make_prompts(point: DesignPoint, token_ids: Sequence[int], run: int) -> list[list[int]]:
    """``max_batch_size`` prompts drawn from ``token_ids``.

    Every run has its own, so that no run can reuse the pages of an earlier one.
    """
    generator = np.random.default_rng((point.workload.seed, run))
    shape = (point.engine.max_batch_size, point.workload.prompt_tokens)
    return [[int(token) for token in row] for row in generator.choice(np.asarray(token_ids), shape)]
