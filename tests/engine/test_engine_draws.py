"""Drawing against a plain reference that looks at tokens one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvscape.engine import SamplingParams
from kvscape.engine.draws import Vector, distribution, drawn, largest, uniform

# apart enough that no two tokens have the same probability
LOGITS = st.lists(st.integers(-80, 80), min_size=2, max_size=30, unique=True).map(lambda values: np.array(values) / 8)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 35),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 1),
)


def reference_distribution(logits: Vector, params: SamplingParams) -> list[float]:
    kept = {token: math.exp((value - max(logits)) / params.temperature) for token, value in enumerate(logits)}
    ranked = sorted(kept, key=lambda token: -kept[token])[: params.top_k or None]
    total = sum(kept[token] for token in ranked)
    nucleus: list[int] = []
    for token in ranked:
        if params.top_p < 1 and sum(kept[one] for one in nucleus) / total >= params.top_p:
            break
        nucleus.append(token)
    final = [token for token in nucleus if kept[token] >= params.min_p * kept[ranked[0]]]
    total = sum(kept[token] for token in final)
    return [kept[token] / total if token in final else 0.0 for token in range(len(logits))]


def whole(logits: Vector, params: SamplingParams) -> Vector:
    """The distribution with zeros for the tokens that were left out."""
    token_ids, probabilities = distribution(logits, params)
    assert (np.diff(token_ids) > 0).all()
    result = np.zeros(len(logits))
    result[token_ids] = probabilities
    return result


@settings(deadline=None)
@given(LOGITS, PARAMS)
def test_distribution_keeps_what_the_reference_keeps(logits: Vector, params: SamplingParams) -> None:
    got = whole(logits, params)
    expected = np.array(reference_distribution(logits, params))
    # a token on the very edge may fall either way by rounding: then both must still agree on all the others
    edge = (got > 0) != (expected > 0)
    assert edge.sum() <= 1
    if not edge.any():
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(temperature=1), [0.5, 0.25, 0.125, 0.125]),
        (SamplingParams(temperature=0.5), [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (SamplingParams(temperature=1, top_k=1), [1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (SamplingParams(temperature=1, top_p=0.5), [1, 0, 0, 0]),
        (SamplingParams(temperature=1, top_p=0.51), [2 / 3, 1 / 3, 0, 0]),
        (SamplingParams(temperature=1, min_p=0.4), [2 / 3, 1 / 3, 0, 0]),
        (SamplingParams(temperature=1, top_k=2, top_p=0.6), [1, 0, 0, 0]),
    ],
)
def test_distribution_by_hand(params: SamplingParams, expected: list[float]) -> None:
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125])) + 3
    np.testing.assert_allclose(whole(logits, params), expected, rtol=1e-12)


@pytest.mark.parametrize("peak", [1.0, 4.0, 12.0])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999, 0.9999999])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_the_sorted_one(peak: float, top_p: float) -> None:
    logits = peak * np.random.default_rng(0).standard_normal(20_000)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    order = np.argsort(-probabilities)
    number = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    token_ids, kept = distribution(logits, SamplingParams(temperature=1, top_p=top_p))
    np.testing.assert_array_equal(token_ids, np.sort(order[:number]))
    np.testing.assert_allclose(kept, probabilities[token_ids] / probabilities[token_ids].sum(), rtol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 420), st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_the_largest_are_those_of_the_sorted_values(size: int, number: int, seed: int, distinct: int) -> None:
    values = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    edge = np.sort(values)[::-1][min(number, size) - 1]
    np.testing.assert_array_equal(largest(values, number), np.flatnonzero(values >= edge))


def test_a_draw_is_the_inverse_of_the_distribution_function() -> None:
    probabilities = np.array([0, 0.25, 0, 0.5, 0.25, 0])
    assert [drawn(probabilities, number) for number in (0, 0.249, 0.25, 0.749, 0.75, 1 - 2**-53)] == [1, 1, 3, 3, 4, 4]


def test_random_numbers_follow_seed_and_position_alone() -> None:
    first = [uniform(5, position) for position in range(50)]
    assert first == [uniform(5, position) for position in range(50)]
    assert len(set(first)) == 50 and all(0 <= number < 1 for number in first)
    assert first != [uniform(6, position) for position in range(50)] != [uniform(2**64 - 1, 0)] * 50


def test_a_draw_never_takes_a_token_without_probability() -> None:
    certain = np.array([0.0, 1.0, 0.0])
    assert {drawn(certain, number) for number in (0.0, 0.5, 1 - 2**-53, 1.0)} == {1}
