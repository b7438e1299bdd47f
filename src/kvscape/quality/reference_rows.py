"""A reference's distributions, as they are compared with: whole, or what a file kept of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvscape.quality.distributions import Distributions, Doubles, Floats, Ids
from kvscape.quality.kl import Divergences, coded_kl, lumped_kl, whole_kl
from kvscape.quality.reference_format import SHOWN, ReferenceFormat

Arrays = Mapping[str, NDArray[Any]]

# A log-probability below this has no code: 50,000 such tokens together have less than 1e-9.
_FLOOR = -32.0


class ReferenceRows(Protocol):
    """Some rows of a reference."""

    @property
    def target_logprobs(self) -> Doubles:
        """Log-probability of each row's right token: [rows]."""
        ...

    @property
    def top_ids(self) -> Ids:
        """[rows, k] the likeliest tokens, best first; k is at least ``SHOWN``."""
        ...

    @property
    def top_logprobs(self) -> Doubles:
        """[rows, k]"""
        ...

    def divergences(self, candidate: Distributions) -> Divergences:
        """KL(reference || candidate) of each row."""
        ...


class WholeRows:
    """Rows of a model that runs beside the candidate."""

    def __init__(self, logits: Floats, targets: Ids) -> None:
        self._distributions = Distributions.of(logits)
        self.target_logprobs = self._distributions.logprobs(targets)
        self.top_ids = self._distributions.likeliest(SHOWN)
        self.top_logprobs = self._distributions.logprobs(self.top_ids)

    def divergences(self, candidate: Distributions) -> Divergences:
        return Divergences.exact(whole_kl(self._distributions, candidate))


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Rows of a file: ``arrays`` are those of ``ReferenceFormat.specs``."""

    arrays: Arrays

    @property
    def target_logprobs(self) -> Doubles:
        return self.arrays["target_logprobs"].astype(np.float64)

    @property
    def top_ids(self) -> Ids:
        return self.arrays["top_ids"].astype(np.int64)

    @property
    def top_logprobs(self) -> Doubles:
        return self.arrays["top_logprobs"].astype(np.float64)

    def divergences(self, candidate: Distributions) -> Divergences:
        if "codes" in self.arrays:
            return coded_kl(_decoded(self.arrays), self.top_ids, self._numbers("steps"), _FLOOR, candidate)
        return lumped_kl(
            self.top_ids, self.top_logprobs, self._numbers("rest"), self._numbers("rest_entropy"), candidate
        )

    def _numbers(self, name: str) -> Doubles:
        return self.arrays[name].astype(np.float64)


def kept(logits: Floats, targets: Ids, form: ReferenceFormat) -> dict[str, NDArray[Any]]:
    """What a file keeps of rows of logits."""
    rows = Distributions.of(logits)
    ids = rows.likeliest(form.top_k)
    top, specs = rows.logprobs(ids), form.specs(len(logits), logits.shape[1])
    arrays = {"target_logprobs": rows.logprobs(targets), "top_ids": ids, "top_logprobs": top, "rest": rows.rest(ids)}
    if form.bits:
        arrays["steps"], arrays["codes"] = _coded(rows, top[:, -1], form.bits)
    else:
        arrays["rest_entropy"] = _rest_entropy(rows, ids)
    return {name: array.astype(specs[name].dtype) for name, array in arrays.items()}


def _rest_entropy(rows: Distributions, ids: Ids) -> Doubles:
    """Sum of p ln p over all but ``ids``: [rows]."""
    weights = rows.weights.copy()
    weights[np.arange(len(ids))[:, None], ids] = 0
    with np.errstate(invalid="ignore"):
        terms = np.where(weights > 0, weights * rows.shifted, 0)
    total = weights.sum(axis=1, dtype=np.float64)
    result: Doubles = (terms.sum(axis=1, dtype=np.float64) - total * rows.log_totals) / np.exp(rows.log_totals)
    return result


def _coded(rows: Distributions, highest: Doubles, bits: int) -> tuple[Doubles, NDArray[Any]]:
    """Equal steps down from ``highest``, each row's own; the last code means that there is nothing.

    Codes of the tokens that are kept exactly are never read.
    """
    last = 2**bits - 1
    floor = (_FLOOR + rows.log_totals).astype(np.float32)
    top = np.maximum((highest + rows.log_totals).astype(np.float32), floor)  # as in ``shifted``
    below = rows.shifted < floor[:, None]
    lowest = np.where(below, top[:, None], rows.shifted).min(axis=1)
    steps = (np.maximum(top - lowest, 0) / (last - 1)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        codes = np.rint((top[:, None] - rows.shifted) / np.where(steps > 0, steps, 1)[:, None])
    codes = np.where(below, last, np.clip(codes, 0, last - 1))
    return steps.astype(np.float64), codes.astype(f"uint{bits}")


def _decoded(arrays: Arrays) -> Distributions:
    """Whole rows again: exact at the likeliest tokens, the others scaled to the probability that they have together."""
    codes, ids, top = arrays["codes"], arrays["top_ids"].astype(np.int64), arrays["top_logprobs"]
    rows, last = np.arange(len(codes))[:, None], np.iinfo(codes.dtype).max
    shifted = top[:, -1:] - codes.astype(np.float32) * arrays["steps"][:, None]
    shifted[codes == last] = -np.inf
    shifted[rows, ids] = -np.inf
    weights = np.exp(shifted)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = arrays["rest"].astype(np.float64) - np.log(weights.sum(axis=1, dtype=np.float64))
    shifted += np.where(np.isfinite(factors), factors, 0)[:, None].astype(np.float32)
    shifted[rows, ids] = top
    return Distributions.shifted_by_maximum(shifted)
