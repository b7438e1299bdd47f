"""Chooses the next token from logits on the host; the same seed and position give the same choice in any batch."""

from collections.abc import Sequence as Ordered
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.engine.devices.device import FloatArray
from kvscape.engine.request import SamplingParams, TokenLogprob, TopLogprobs
from kvscape.engine.sequence import Sequence

Vector: TypeAlias = npt.NDArray[np.float64]
TokenIds: TypeAlias = npt.NDArray[np.intp]

_BLOCK = 64


def choose(logits: FloatArray, sequence: Sequence) -> int:
    """Choose the token that follows ``sequence``; logits: [vocab_size]."""
    params = sequence.request.params
    penalized = penalize(logits, params, sequence.request.prompt_token_ids, sequence.output_token_ids)
    wanted = add_bias(penalized, params.logit_bias)
    if sequence.lead is not None:
        wanted = np.where(sequence.lead.allowed(len(wanted)), wanted, -np.inf)
    if params.temperature == 0:
        return int(np.argmax(wanted))
    token_ids, probabilities = distribution(wanted, params)
    return int(token_ids[draw(probabilities, params.seed, len(sequence.token_ids))])


def token_logprob(logits: FloatArray, token_id: int, number: int) -> TokenLogprob:
    """Log-probabilities of ``token_id`` and of the ``number`` likeliest tokens, under the model's own distribution."""
    logprobs = log_softmax(logits.astype(np.float64))
    return TokenLogprob(token_id, float(logprobs[token_id]), _top(logprobs, number))


def top_logprobs(logits: FloatArray, number: int) -> TopLogprobs:
    """The ``number`` likeliest tokens with their log-probabilities, under the model's own distribution."""
    return _top(log_softmax(logits.astype(np.float64)), number)


def _top(logprobs: Vector, number: int) -> TopLogprobs:
    return tuple((token, float(logprobs[token])) for token in _likeliest(logprobs, min(number, len(logprobs))))


def penalize(
    logits: FloatArray | Vector, params: SamplingParams, prompt: Ordered[int], output: Ordered[int]
) -> FloatArray | Vector:
    """Make tokens that were there less likely.

    The repetition penalty divides positive logits and multiplies negative ones, for tokens of prompt and output; the
    presence penalty is subtracted once, the frequency penalty once for each time the token is in the output.
    """
    if not params.penalized:
        return logits
    result = logits.astype(np.float64)
    seen = np.unique(np.asarray([*prompt, *output], np.int64))
    factor = params.repetition_penalty
    result[seen] = np.where(result[seen] > 0, result[seen] / factor, result[seen] * factor)
    ids, counts = np.unique(np.asarray(output, np.int64), return_counts=True)
    result[ids] -= params.frequency_penalty * counts + params.presence_penalty
    return result


def add_bias(logits: FloatArray | Vector, bias: Ordered[tuple[int, float]]) -> FloatArray | Vector:
    """Add to the logits of some tokens."""
    if not bias:
        return logits
    result = logits.astype(np.float64)
    for token_id, value in bias:
        result[token_id] += value
    return result


def distribution(logits: FloatArray | Vector, params: SamplingParams) -> tuple[TokenIds, Vector]:
    """Tokens, ascending, and their probabilities after temperature, top-k, top-p and min-p, in this order.

    top-p keeps the fewest likeliest tokens that hold ``top_p`` together, min-p those with at least ``min_p`` of the
    likeliest one's probability; tokens equal to the last kept stay too. The vocabulary is never sorted.
    """
    token_ids = largest(logits, params.top_k or len(logits))
    chosen = logits if len(token_ids) == len(logits) else logits[token_ids]
    probabilities = np.exp((chosen.astype(np.float64) - float(logits.max())) / params.temperature)
    probabilities /= probabilities.sum()
    least = params.min_p * probabilities.max()
    if params.top_p < 1:
        least = max(least, _nucleus_edge(probabilities, params.top_p))
    if least == 0:
        return token_ids, probabilities
    kept = probabilities >= least
    return token_ids[kept], probabilities[kept] / probabilities[kept].sum()


def largest(values: FloatArray | Vector, number: int) -> TokenIds:
    """Where the ``number`` largest values are, and those equal to the last of them, ascending.

    At least ``number`` values reach the number-th largest maximum of a block: no others are compared.
    """
    if number >= len(values):
        return np.arange(len(values))
    blocks = values[: len(values) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).max(axis=1)
    candidates = np.arange(len(values))
    if number <= len(blocks):
        candidates = np.flatnonzero(values >= np.partition(blocks, -number)[-number])
    among = values[candidates]
    found: TokenIds = candidates[among >= np.partition(among, -number)[-number]]
    return found


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
    candidates = largest(logprobs, number)
    best = np.argsort(-logprobs[candidates], kind="stable")[:number]
    return [int(token) for token in candidates[best]]


def _nucleus_edge(probabilities: Vector, top_p: float) -> float:
    """Probability of the least likely token that top-p keeps."""
    number = _BLOCK
    while True:
        ordered = np.sort(probabilities[largest(probabilities, number)])[::-1]
        reached = np.cumsum(ordered)
        if reached[-1] >= top_p or len(ordered) == len(probabilities):
            last = int(np.searchsorted(reached, top_p))
            return float(ordered[min(last, len(ordered) - 1)])
        number *= 8
