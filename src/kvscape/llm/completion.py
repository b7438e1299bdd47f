"""What a prompt was answered."""

from dataclasses import dataclass

from kvscape.engine.metrics import RequestMetrics
from kvscape.engine.request import FinishReason, TokenLogprob


@dataclass(frozen=True)
class Completion:
    """One answer; ``logprobs`` has an entry for each token when they were asked for."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    metrics: RequestMetrics
