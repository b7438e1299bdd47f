"""Log-probabilities of tokens, by hand."""

import numpy as np
import pytest

from kvscape.engine.devices.device import Asked, FloatArray
from kvscape.engine.logprobs import log_softmax, token_logprobs
from kvscape.engine.token_logprob import TokenLogprob


def likeliest(logits: FloatArray, number: int) -> list[int]:
    (found,) = token_logprobs(logits[None], [Asked(0, 0, number)])
    return [token for token, _ in found.top]


def test_logprobs_are_the_models_own() -> None:
    row = np.log(np.array([0.5, 0.125, 0.25, 0.125])).astype(np.float32) + np.float32(7)
    got, other = token_logprobs(np.stack([np.zeros(4, np.float32), row]), [Asked(1, 3, 3), Asked(0, 2, 0)])
    assert (got.token_id, [token for token, _ in got.top]) == (3, [0, 2, 1])
    assert [got.logprob, *(value for _, value in got.top)] == pytest.approx(
        np.log([0.125, 0.5, 0.25, 0.125]).tolist(), rel=1e-6
    )
    assert other == TokenLogprob(2, other.logprob) and other.logprob == pytest.approx(np.log(0.25))


@pytest.mark.parametrize(("number", "expected"), [(0, []), (1, [2]), (2, [2, 0]), (3, [2, 0, 1]), (9, [2, 0, 1, 3])])
def test_the_likeliest_come_first_and_the_lowest_id_among_equals(number: int, expected: list[int]) -> None:
    assert likeliest(np.array([1, 1, 2, 0.5], np.float32), number) == expected


def test_log_softmax_of_large_logits_is_finite() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1e4, 1e4])), np.log([0.5, 0.5]))
