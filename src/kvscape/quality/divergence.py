"""Divergence of a candidate from a reference, token by token: the same rows of both, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from kvscape.quality.distributions import Distributions, Doubles, Floats, Ids
from kvscape.quality.reference_format import SHOWN
from kvscape.quality.reference_rows import ReferenceRows, WholeRows
from kvscape.weights.blocks import blocks, in_order


class ReferencePart(Protocol):
    """The reference's rows that belong to some rows of the candidate."""

    def rows(self, part: slice) -> ReferenceRows:
        """Read or compute rows; called by several threads."""
        ...


@dataclass(frozen=True, eq=False)
class WholePart:
    """Logits of a reference that runs beside the candidate, [rows, vocab_size], and the right tokens."""

    logits: Floats
    targets: Ids

    def rows(self, part: slice) -> ReferenceRows:
        return WholeRows(self.logits[part], self.targets[part])


@dataclass(frozen=True, eq=False)
class TokenDivergences:
    """One entry for each scored token; natural logarithms.

    ``kl`` lies between ``kl_low`` and ``kl_high``: they are all the same where the reference is known whole.
    """

    targets: Ids
    """[n] the right tokens"""
    kl: Doubles
    kl_low: Doubles
    kl_high: Doubles
    reference_logprobs: Doubles
    """[n] of the right token"""
    candidate_logprobs: Doubles
    reference_top: Ids
    """[n, 5] likeliest tokens, best first"""
    reference_top_logprobs: Doubles
    candidate_top: Ids
    candidate_top_logprobs: Doubles

    @classmethod
    def joined(cls, parts: Sequence["TokenDivergences"]) -> "TokenDivergences":
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def compare(reference: ReferencePart, logits: Floats, targets: Ids) -> TokenDivergences:
    """Compare rows of a candidate's logits [rows, vocab_size] with the reference's, blocks of rows on all cores.

    ``targets``: [rows] the tokens that really come; there is at least one.
    """

    def one(part: slice) -> TokenDivergences:
        return _compared(reference.rows(part), Distributions.of(logits[part]), targets[part])

    return TokenDivergences.joined(list(in_order(one, blocks(*logits.shape))))


def _compared(reference: ReferenceRows, candidate: Distributions, targets: Ids) -> TokenDivergences:
    divergences, top = reference.divergences(candidate), candidate.likeliest(SHOWN)
    return TokenDivergences(
        targets=targets,
        kl=divergences.kl,
        kl_low=divergences.low,
        kl_high=divergences.high,
        reference_logprobs=reference.target_logprobs,
        candidate_logprobs=candidate.logprobs(targets),
        reference_top=reference.top_ids[:, :SHOWN],
        reference_top_logprobs=reference.top_logprobs[:, :SHOWN],
        candidate_top=top,
        candidate_top_logprobs=candidate.logprobs(top),
    )
