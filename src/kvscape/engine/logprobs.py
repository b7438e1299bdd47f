"""Log-probabilities of tokens in numpy: what a device tells that has the logits."""

from collections.abc import Sequence

import numpy as np

from kvscape.engine.devices.device import Asked, FloatArray
from kvscape.engine.draws import Vector, largest
from kvscape.engine.token_logprob import TokenLogprob


def token_logprobs(logits: FloatArray, asked: Sequence[Asked]) -> list[TokenLogprob]:
    """What is asked of some rows; logits: [r, vocab_size]."""
    return [_token_logprob(logits[one.row], one.token_id, one.number) for one in asked]


def log_softmax(logits: FloatArray | Vector) -> Vector:
    shifted = logits.astype(np.float64) - logits.max()
    logprobs: Vector = shifted - np.log(np.exp(shifted).sum())
    return logprobs


def _token_logprob(logits: FloatArray, token_id: int, number: int) -> TokenLogprob:
    logprobs = log_softmax(logits)
    top = tuple((token, float(logprobs[token])) for token in _likeliest(logits, min(number, len(logits))))
    return TokenLogprob(token_id, float(logprobs[token_id]), top)


def _likeliest(logits: FloatArray, number: int) -> list[int]:
    """The ``number`` likeliest tokens, best first, the lowest id among equals."""
    if number == 0:
        return []
    candidates = largest(logits, number)
    best = np.argsort(-logits[candidates], kind="stable")[:number]
    return [int(token) for token in candidates[best]]
