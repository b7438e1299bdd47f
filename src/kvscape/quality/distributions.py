"""Rows of logits as distributions over the vocabulary: f32, with totals in f64."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kvscape.engine.draws import largest

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Distributions:
    """Log-probability of token t in row i is ``shifted[i, t] - log_totals[i]``; ``weights`` is exp(``shifted``).

    ``shifted`` is the logits less their maximum, so that a likely token's error in f32 is some 1e-7.
    """

    shifted: Floats
    weights: Floats
    log_totals: Doubles

    @classmethod
    def of(cls, logits: Floats) -> "Distributions":
        """Softmax of each row; logits: [rows, vocab_size], which stay as they are."""
        return cls.shifted_by_maximum(logits - logits.max(axis=1, keepdims=True))

    @classmethod
    def shifted_by_maximum(cls, shifted: Floats) -> "Distributions":
        weights = np.exp(shifted)
        return cls(shifted, weights, np.log(weights.sum(axis=1, dtype=np.float64)))

    def logprobs(self, token_ids: Ids) -> Doubles:
        """Log-probability of each row's own tokens: [rows] or [rows, k] -> the same."""
        rows = np.arange(len(self.shifted)).reshape(-1, *[1] * (token_ids.ndim - 1))
        totals = self.log_totals.reshape(rows.shape)
        result: Doubles = self.shifted[rows, token_ids].astype(np.float64) - totals
        return result

    def row(self, index: int) -> Doubles:
        """Log-probabilities of a whole row."""
        logprobs: Doubles = self.shifted[index].astype(np.float64) - self.log_totals[index]
        return logprobs

    def likeliest(self, number: int) -> Ids:
        """The ``number`` likeliest tokens of each row, best first, the lowest id among equals: [rows, number]."""
        return np.stack([_likeliest(row, number) for row in self.shifted])

    def rest(self, token_ids: Ids) -> Doubles:
        """Log of the probability that all but a row's ``token_ids`` [rows, k] have together: [rows].

        The rest is added up by itself: 1 less the others would be rounding alone where they have nearly all.
        """
        rows = np.arange(len(self.shifted))[:, None]
        rest = self.weights.copy()
        rest[rows, token_ids] = 0
        with np.errstate(divide="ignore"):
            result: Doubles = np.log(rest.sum(axis=1, dtype=np.float64)) - self.log_totals
        for index in np.flatnonzero(np.isneginf(result)).tolist():
            result[index] = _log_sum(np.delete(self.row(index), token_ids[index]))
        return result


def _likeliest(values: Floats, number: int) -> Ids:
    candidates = largest(values, number)
    best = np.argsort(-values[candidates], kind="stable")[:number]
    return candidates[best].astype(np.int64)


def _log_sum(logprobs: Doubles) -> float:
    """Log of a sum of probabilities that are too small for f32."""
    most = logprobs.max(initial=-np.inf)
    return float(most + np.log(np.exp(logprobs - most).sum())) if np.isfinite(most) else -np.inf
