"""The numbers of a divergence, each against its definition in plain Python."""

import math
from dataclasses import replace

import numpy as np
import pytest

from kvscape.quality.divergence import TokenDivergences
from kvscape.quality.divergence_summary import summarize_divergence
from kvscape.quality.protocols import Window
from kvscape.results.divergence import KL_EDGES_NATS, Divergence

WINDOWS = [Window(list(range(31)), 1), Window(list(range(100, 131)), 16)]
SIZES = [30, 15]


def tokens(seed: int, size: int) -> TokenDivergences:
    """Two models that are often of one mind."""
    random = np.random.default_rng(seed)
    kl = random.lognormal(-3, 2, size)
    top = np.stack([random.permutation(9)[:5] for _ in range(size)])
    other = np.where(random.random((size, 1)) < 0.6, top, np.stack([random.permutation(9)[:5] for _ in range(size)]))
    logprobs = -random.exponential(2, size)
    return TokenDivergences(
        targets=random.integers(0, 9, size),
        kl=kl,
        kl_low=kl * 0.9,
        kl_high=kl * 1.5,
        reference_logprobs=logprobs,
        candidate_logprobs=logprobs - random.normal(0.1, 0.3, size),
        reference_top=top,
        reference_top_logprobs=np.log(np.full((size, 5), 0.2)),
        candidate_top=other,
        candidate_top_logprobs=np.log(np.full((size, 5), 0.1)),
    )


PARTS = [tokens(1, 30), tokens(2, 15)]
ALL = TokenDivergences.joined(PARTS)
MANY, LONG = tokens(3, 2001), Window([0] * 2002, 1)


def letters(token_ids: object) -> str:
    return " ".join(map(str, token_ids))  # type: ignore[call-overload]


def summary(parts: list[TokenDivergences] = PARTS) -> Divergence:
    return summarize_divergence(WINDOWS, parts, {"quantization": "q0f32"}, letters)


def test_means_are_over_all_tokens() -> None:
    got = summary()
    assert got.tokens_compared == 45
    assert got.mean_kl_nats == pytest.approx(sum(ALL.kl) / 45)
    assert (got.mean_kl_low_nats, got.mean_kl_high_nats) == pytest.approx(
        (0.9 * got.mean_kl_nats, 1.5 * got.mean_kl_nats)
    )
    change = [math.exp(q) - math.exp(p) for p, q in zip(ALL.reference_logprobs, ALL.candidate_logprobs, strict=True)]
    assert got.mean_probability_change == pytest.approx(sum(change) / 45)
    assert got.rms_probability_change == pytest.approx(math.sqrt(sum(c * c for c in change) / 45))


@pytest.mark.parametrize(
    ("name", "share"),
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999), ("max", 1)],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(name: str, share: float) -> None:
    kl = np.sort(MANY.kl)
    assert (
        summarize_divergence([LONG], [MANY], {}, letters).numbers[f"kl_{name}_nats"] == kl[math.ceil(2001 * share) - 1]
    )


@pytest.mark.parametrize("percent", [1, 5, 50, 95, 99])
def test_percentiles_of_the_change(percent: int) -> None:
    change = np.sort(np.exp(MANY.candidate_logprobs) - np.exp(MANY.reference_logprobs))
    got = summarize_divergence([LONG], [MANY], {}, letters).numbers[f"probability_change_p{percent}"]
    assert got == change[math.ceil(2001 * percent / 100) - 1]


def test_agreement_counts_tokens() -> None:
    pairs = list(zip(ALL.reference_top.tolist(), ALL.candidate_top.tolist(), strict=True))
    got = summary()
    assert got.top1_agreement == pytest.approx(sum(p[0] == q[0] for p, q in pairs) / 45)
    assert got.top5_agreement == pytest.approx(sum(len(set(p) & set(q)) for p, q in pairs) / (5 * 45))
    assert 0.5 < got.top1_agreement < got.top5_agreement < 0.95


def test_perplexities_and_their_ratio() -> None:
    got = summary()
    assert got.reference_perplexity == pytest.approx(math.exp(-ALL.reference_logprobs.mean()))
    assert got.perplexity_ratio == pytest.approx(math.exp((ALL.reference_logprobs - ALL.candidate_logprobs).mean()))


def test_a_paired_comparison_is_surer_than_two_apart() -> None:
    """What is hard is hard for both: the ratio's error is that of the differences alone."""
    random = np.random.default_rng(5)
    hard, noise = random.exponential(2, 6000), random.normal(0.1, 0.05, 6000)
    many = [Window([0] * 3001, 1)] * 2
    parts = [
        replace(tokens(seed, 3000), reference_logprobs=-hard[part], candidate_logprobs=-hard[part] - noise[part])
        for seed, part in enumerate([slice(0, 3000), slice(3000, 6000)])
    ]
    got = summarize_divergence(many, parts, {}, letters)
    assert got.perplexity_ratio_standard_error == pytest.approx(math.exp(0.1) * 0.05 / math.sqrt(6000), rel=0.3)


def test_the_error_of_a_mean_is_that_of_its_draws() -> None:
    random = np.random.default_rng(6)
    parts = [replace(tokens(0, 3000), kl=random.exponential(1, 3000)) for _ in range(2)]
    got = summarize_divergence([Window([0] * 3001, 1)] * 2, parts, {}, letters)
    assert got.mean_kl_standard_error_nats == pytest.approx(1 / math.sqrt(6000), rel=0.3)


def test_the_histogram_counts_every_token_once() -> None:
    kl = np.array([0, 1e-9, 2e-7, 0.5, 1e5] + [0.03] * 40)
    got = summary([replace(PARTS[0], kl=kl[:30]), replace(PARTS[1], kl=kl[30:])]).kl_histogram
    assert len(got) == len(KL_EDGES_NATS) - 1 and sum(got) == 45
    assert got[0] == 2 and got[1] == 1 and got[-1] == 1
    assert got[int(np.searchsorted(KL_EDGES_NATS, 0.03)) - 1] == 40


def test_the_worst_tokens_stand_in_their_context() -> None:
    kl = ALL.kl.copy()
    kl[[3, 30, 44]] = [80, 99, 90]
    worst = summary([replace(PARTS[0], kl=kl[:30]), replace(PARTS[1], kl=kl[30:])]).worst_tokens
    assert len(worst) == 10
    assert [(one.window, one.position, one.kl_nats) for one in worst[:3]] == [(1, 16, 99), (1, 30, 90), (0, 4, 80)]
    assert (worst[0].context, worst[0].token) == (letters(range(100, 116)), "116")
    assert worst[1].context == letters(range(106, 130))
    assert [one.token for one in worst[2].reference_top] == [str(token) for token in PARTS[0].reference_top[3]]
    assert [one.probability for one in worst[2].candidate_top] == pytest.approx([0.1] * 5)
    assert worst[2].candidate_probability == pytest.approx(math.exp(PARTS[0].candidate_logprobs[3]))


def test_what_is_infinite_spoils_the_mean_only() -> None:
    parts = [replace(PARTS[0], kl=np.append(PARTS[0].kl[1:], np.inf)), PARTS[1]]
    got = summary(parts)
    assert got.mean_kl_nats == got.kl_max_nats == np.inf and math.isnan(got.mean_kl_standard_error_nats)
    assert np.isfinite(got.kl_p95_nats) and sum(got.kl_histogram) == 45


def test_a_divergence_comes_back_from_json() -> None:
    import json

    got = summary()
    raw = json.loads(json.dumps(got, default=vars))
    assert Divergence.from_json(raw) == got
    assert math.isnan(Divergence.from_json({**raw, "mean_kl_nats": None}).mean_kl_nats)
