"""Tokens drawn from logits, in numpy: what a device does that has the logits, and what the CPU does itself."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.engine.devices.device import Draw, Edits, FloatArray

Vector: TypeAlias = npt.NDArray[np.float64]
TokenIds: TypeAlias = npt.NDArray[np.intp]

MOST = float(np.finfo(np.float32).max)
"""The largest logit that edits make."""
_BLOCK = 64


class Shape(Protocol):
    """What shapes a distribution; a temperature above 0."""

    @property
    def temperature(self) -> float: ...

    @property
    def top_k(self) -> int: ...

    @property
    def top_p(self) -> float: ...

    @property
    def min_p(self) -> float: ...


def sampled(logits: FloatArray, draws: Sequence[Draw]) -> list[int]:
    """The token of each draw; logits: [r, vocab_size]."""
    return [_sampled(logits[draw.row], draw) for draw in draws]


def _sampled(logits: FloatArray, draw: Draw) -> int:
    if draw.edits is not None:
        logits = edited(logits, draw.edits)
    if draw.temperature == 0:
        return int(np.argmax(logits))
    token_ids, probabilities = distribution(logits, draw)
    return int(token_ids[drawn(probabilities, draw.uniform)])


def edited(logits: FloatArray, edits: Edits) -> FloatArray:
    """A row of logits with its edits; products and sums are f64, the result is f32."""
    result, made = logits.copy(), edits.changes
    before = logits[made["token_id"]].astype(np.float64)
    after = before * np.where(before > 0, made["positive"], made["other"]) + made["offset"]
    result[made["token_id"]] = np.clip(after, -MOST, MOST)
    if edits.allowed is not None:
        result[~edits.allowed] = -np.inf
    return result


def uniform(seed: int, position: int) -> float:
    """The random number in [0, 1) that belongs to (seed, position)."""
    key = np.array([seed, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random()


def drawn(probabilities: Vector, uniform: float) -> int:
    """The place that a random number draws: the first one up to which the probabilities are more than it is."""
    cumulative = np.cumsum(probabilities)
    # rounding may carry the product up to the total itself, behind the last token
    place = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return int(min(place, np.flatnonzero(probabilities)[-1]))


def distribution(logits: FloatArray | Vector, how: Shape) -> tuple[TokenIds, Vector]:
    """Tokens, ascending, and their probabilities after temperature, top-k, top-p and min-p, in this order.

    top-p keeps the fewest likeliest tokens that hold ``top_p`` together, min-p those with at least ``min_p`` of the
    likeliest one's probability; tokens equal to the last kept stay too. The vocabulary is never sorted.
    """
    token_ids = largest(logits, how.top_k or len(logits))
    chosen = logits if len(token_ids) == len(logits) else logits[token_ids]
    probabilities = np.exp((chosen.astype(np.float64) - float(logits.max())) / how.temperature)
    probabilities /= probabilities.sum()
    least = how.min_p * probabilities.max()
    if how.top_p < 1:
        least = max(least, _nucleus_edge(probabilities, how.top_p))
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
