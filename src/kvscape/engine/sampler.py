"""Chooses the next token; the same seed and position give the same choice in any batch, on the host or a device."""

from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.engine.devices.device import Draw, FloatArray
from kvscape.engine.draws import Vector, distribution, drawn, largest, uniform
from kvscape.engine.request import SamplingParams, TokenLogprob, TopLogprobs
from kvscape.engine.sequence import Sequence


def wanted_draw(row: int, sequence: Sequence, ahead: int = 0) -> Draw:
    """How the token ``ahead`` behind the next one of ``sequence`` is drawn from a row of logits as they are."""
    params = sequence.request.params
    number = uniform(params.seed, len(sequence.token_ids) + ahead) if params.temperature > 0 else 0.0
    return Draw(row, params.top_k, params.temperature, params.top_p, params.min_p, number)


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
    return int(token_ids[drawn(probabilities, uniform(params.seed, len(sequence.token_ids)))])


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
