"""Chooses the next token from logits on the host; the same seed and position give the same choice in any batch."""

from collections.abc import Sequence as Ordered
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.engine.devices.device import FloatArray
from kvscape.engine.request import SamplingParams, TokenLogprob
from kvscape.engine.sequence import Sequence

Vector: TypeAlias = npt.NDArray[np.float64]


def choose(logits: FloatArray, sequence: Sequence) -> int:
    """Choose the token that follows ``sequence``; logits: [vocab_size]."""
    params = sequence.request.params
    exact = logits.astype(np.float64)
    penalized = penalize(exact, params, sequence.request.prompt_token_ids, sequence.output_token_ids)
    if params.temperature == 0:
        return int(np.argmax(penalized))
    return draw(distribution(penalized, params), params.seed, len(sequence.token_ids))


def token_logprob(logits: FloatArray, token_id: int, number: int) -> TokenLogprob:
    """Log-probabilities of ``token_id`` and of the ``number`` likeliest tokens, under the model's own distribution."""
    logprobs = log_softmax(logits.astype(np.float64))
    top = tuple((token, float(logprobs[token])) for token in _likeliest(logprobs, min(number, len(logprobs))))
    return TokenLogprob(token_id, float(logprobs[token_id]), top)


def penalize(logits: Vector, params: SamplingParams, prompt: Ordered[int], output: Ordered[int]) -> Vector:
    """Make tokens that were there less likely.

    The repetition penalty divides positive logits and multiplies negative ones, for tokens of prompt and output; the
    presence penalty is subtracted once, the frequency penalty once for each time the token is in the output.
    """
    if not params.penalized:
        return logits
    result = logits.copy()
    seen = np.unique(np.asarray([*prompt, *output], np.int64))
    factor = params.repetition_penalty
    result[seen] = np.where(result[seen] > 0, result[seen] / factor, result[seen] * factor)
    ids, counts = np.unique(np.asarray(output, np.int64), return_counts=True)
    result[ids] -= params.frequency_penalty * counts + params.presence_penalty
    return result


def distribution(logits: Vector, params: SamplingParams) -> Vector:
    """Probabilities after temperature, top-k, top-p and min-p, in this order; tokens equal to the last kept stay too.

    top-p keeps the fewest likeliest tokens that hold ``top_p`` together, min-p those with at least ``min_p`` of the
    likeliest one's probability.
    """
    scaled = (logits - logits.max()) / params.temperature
    if 0 < params.top_k < len(scaled):
        scaled[scaled < np.partition(scaled, -params.top_k)[-params.top_k]] = -np.inf
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum()
    if params.top_p < 1:
        probabilities[probabilities < _nucleus_edge(probabilities, params.top_p)] = 0
    probabilities[probabilities < params.min_p * probabilities.max()] = 0
    kept: Vector = probabilities / probabilities.sum()
    return kept


def draw(probabilities: Vector, seed: int, position: int) -> int:
    """Draw a token with the random number that belongs to (seed, position)."""
    key = np.array([seed, position], np.uint64)
    cumulative = np.cumsum(probabilities)
    uniform = np.random.Generator(np.random.Philox(key=key)).random() * cumulative[-1]
    # rounding may carry the product up to the total itself, behind the last token
    return int(min(np.searchsorted(cumulative, uniform, side="right"), np.flatnonzero(probabilities)[-1]))


def log_softmax(logits: Vector) -> Vector:
    shifted = logits - logits.max()
    logprobs: Vector = shifted - np.log(np.exp(shifted).sum())
    return logprobs


def _likeliest(logprobs: Vector, number: int) -> list[int]:
    """The ``number`` likeliest tokens, best first, the lowest id among equals."""
    if number == 0:
        return []
    candidates = np.flatnonzero(logprobs >= np.partition(logprobs, -number)[-number])
    best = np.argsort(-logprobs[candidates], kind="stable")[:number]
    return [int(token) for token in candidates[best]]


def _nucleus_edge(probabilities: Vector, top_p: float) -> float:
    """Probability of the least likely token that top-p keeps."""
    ordered = np.sort(probabilities)[::-1]
    last = int(np.searchsorted(np.cumsum(ordered), top_p))
    return float(ordered[min(last, len(ordered) - 1)])
