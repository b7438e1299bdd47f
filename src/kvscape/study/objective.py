"""What a point can be best in."""

import math
from collections.abc import Sequence

from kvscape.study.candidate import Candidate

# Metric of each objective; a stream's speed is that of decoding, whatever the batch.
METRICS = {
    "decode": "tpot_s",
    "prefill": "prefill_tokens_per_s",
    "ttft": "ttft_s",
    "memory": "total_bytes",
    "quality": "perplexity",
}
# Speeds this close to each other differ by noise.
SPEED_NOISE = 0.03
NOISE = {"decode": SPEED_NOISE, "prefill": SPEED_NOISE, "ttft": SPEED_NOISE, "memory": 0.0, "quality": 0.0}


def cost(candidate: Candidate, objective: str) -> float:
    """Less is better; infinite where the metric is not known."""
    value = candidate.at_worst(METRICS[objective])
    if value is None:
        return math.inf
    return 1 / value if objective == "prefill" else value


def best_of(candidates: Sequence[Candidate], objective: str) -> Candidate:
    """The best; of those that only noise tells apart, the one that gives more of the rest."""
    least = min(cost(candidate, objective) for candidate in candidates)
    most = least * (1 + NOISE[objective])
    return min((one for one in candidates if cost(one, objective) <= most), key=_preference)


def _preference(candidate: Candidate) -> tuple[float, ...]:
    parameters, metrics = candidate.parameters, candidate.metrics
    return (
        not candidate.is_measured,
        -parameters["context_window_size"],
        -parameters["max_batch_size"],
        metrics.get("perplexity", 0.0),
        metrics.get("total_bytes", math.inf),
        metrics.get("tpot_s", 0.0),
    )
