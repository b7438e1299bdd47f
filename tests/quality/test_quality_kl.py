import numpy as np
import pytest
from hypothesis import example, given, settings
from made_logits import KINDS, direct_kl, kinds, log_softmax, made_logits, seeds

from kvscape.quality.distributions import Distributions
from kvscape.quality.kl import whole_kl


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_against_itself_is_zero(kind: str) -> None:
    rows = Distributions.of(made_logits(kind, 1))
    assert whole_kl(rows, rows).tolist() == [0, 0, 0]


@given(kinds, kinds, seeds, seeds)
@example("ordinary", "impossible", 1, 2)
@settings(max_examples=60)
def test_it_is_what_the_definition_says(one: str, other: str, seed: int, other_seed: int) -> None:
    reference, candidate = made_logits(one, seed), made_logits(other, other_seed)
    got = whole_kl(Distributions.of(reference), Distributions.of(candidate))
    np.testing.assert_allclose(got, direct_kl(reference, candidate), rtol=2e-6, atol=1e-5)


def test_two_coins() -> None:
    """p = (3/4, 1/4) and q = (1/2, 1/2), by hand."""
    reference, candidate = np.log(np.array([[0.75, 0.25]], np.float32)), np.zeros((1, 2), np.float32)
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert whole_kl(Distributions.of(reference), Distributions.of(candidate)) == pytest.approx(expected, abs=1e-7)


def test_a_token_that_only_the_reference_has_makes_it_infinite() -> None:
    possible, impossible = np.zeros((1, 3), np.float32), np.array([[0, 0, -np.inf]], np.float32)
    assert whole_kl(Distributions.of(possible), Distributions.of(impossible)).tolist() == [np.inf]
    assert whole_kl(Distributions.of(impossible), Distributions.of(possible)) == pytest.approx(np.log(1.5))


def test_a_vocabulary_of_usual_size_is_no_less_exact() -> None:
    reference = made_logits("ordinary", 1, vocab_size=50_000)
    candidate = reference + made_logits("ordinary", 2, vocab_size=50_000) * np.float32(0.1)
    got = whole_kl(Distributions.of(reference), Distributions.of(candidate))
    np.testing.assert_allclose(got, direct_kl(reference, candidate), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_the_softmaxs(kind: str) -> None:
    logits = made_logits(kind, 3)
    tokens = np.array([0, 5, 7])
    expected = log_softmax(logits)
    got = Distributions.of(logits)
    np.testing.assert_allclose(got.logprobs(tokens), expected[np.arange(3), tokens], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got.logprobs(got.likeliest(5))[:, 0], expected.max(axis=1), rtol=1e-6, atol=1e-6)


def test_the_likeliest_come_best_first_and_the_lowest_of_equals() -> None:
    logits = np.array([[1, 3, 2, 3, 0, 2, 2]], np.float32)
    assert Distributions.of(logits).likeliest(4).tolist() == [[1, 3, 2, 5]]


def test_the_rest_is_known_however_small_it_is() -> None:
    logits = np.array([[0, -1, -40, -41], [0, -1, -300, -400], [0, 0, -np.inf, -np.inf]], np.float32)
    expected = [np.logaddexp(-40, -41), -300, -np.inf] - np.array([np.log1p(np.exp(-1))] * 2 + [np.log(2)])
    np.testing.assert_allclose(Distributions.of(logits).rest(np.array([[0, 1]] * 3)), expected, rtol=1e-6)
