"""The divergence of a whole text in numbers, from that of its tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvscape.quality.distributions import Doubles
from kvscape.quality.divergence import TokenDivergences
from kvscape.quality.perplexity import summarize
from kvscape.quality.protocols import Window
from kvscape.quality.standard_error import sum_error
from kvscape.quality.worst_tokens import Decode, worst_tokens
from kvscape.results.divergence import KL_EDGES_NATS, Divergence


def summarize_divergence(
    windows: Sequence[Window], parts: Sequence[TokenDivergences], reference: dict[str, Any], decode: Decode
) -> Divergence:
    """``parts`` are the windows' tokens, ``reference`` says what they were compared with.

    Means are over tokens. Perplexities are the protocol's own, as in the record.
    """
    joined = TokenDivergences.joined(parts)
    kl = _percentiles(joined.kl, [50, 90, 95, 99, 99.9, 100])
    change = np.exp(joined.candidate_logprobs) - np.exp(joined.reference_logprobs)
    changes = _percentiles(change, [1, 5, 50, 95, 99])
    ratio = summarize([part.reference_logprobs - part.candidate_logprobs for part in parts], windows)
    same = [(part.reference_top[:, 0] == part.candidate_top[:, 0]).astype(np.float64) for part in parts]
    return Divergence(
        reference=reference,
        tokens_compared=len(joined.kl),
        mean_kl_nats=float(joined.kl.mean()),
        mean_kl_standard_error_nats=_error([part.kl for part in parts]),
        mean_kl_low_nats=float(joined.kl_low.mean()),
        mean_kl_high_nats=float(joined.kl_high.mean()),
        kl_p50_nats=kl[0],
        kl_p90_nats=kl[1],
        kl_p95_nats=kl[2],
        kl_p99_nats=kl[3],
        kl_p99_9_nats=kl[4],
        kl_max_nats=kl[5],
        top1_agreement=float(np.concatenate(same).mean()),
        top1_agreement_standard_error=_error(same),
        top5_agreement=_overlap(joined),
        mean_probability_change=float(change.mean()),
        rms_probability_change=float(np.sqrt(np.mean(change**2))),
        probability_change_p1=changes[0],
        probability_change_p5=changes[1],
        probability_change_p50=changes[2],
        probability_change_p95=changes[3],
        probability_change_p99=changes[4],
        reference_perplexity=summarize([-part.reference_logprobs for part in parts], windows).perplexity,
        perplexity_ratio=ratio.perplexity,
        perplexity_ratio_standard_error=ratio.standard_error,
        kl_histogram=_histogram(joined.kl),
        worst_tokens=worst_tokens(windows, parts, decode),
    )


def _percentiles(values: Doubles, shares: Sequence[float]) -> list[float]:
    """The smallest values that these per cents of all do not exceed: one that is infinite spoils no other."""
    found: list[float] = np.percentile(values, shares, method="inverted_cdf").tolist()
    return found


def _error(parts: Sequence[Doubles]) -> float:
    """Standard error of the mean over all tokens; not a number where one is infinite."""
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        return float("nan")
    return sum_error([part - values.mean() for part in parts]) / len(values)


def _overlap(tokens: TokenDivergences) -> float:
    """The share of the reference's likeliest tokens that the candidate has among its own as many."""
    same = tokens.reference_top[:, :, None] == tokens.candidate_top[:, None, :]
    return float(same.any(axis=2).mean())


def _histogram(kl: Doubles) -> tuple[int, ...]:
    inside = np.clip(kl, KL_EDGES_NATS[0], KL_EDGES_NATS[-1])
    return tuple(np.histogram(inside, KL_EDGES_NATS)[0].tolist())
