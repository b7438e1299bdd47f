import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kvscape.quality import Running, Settings, perplexity
from kvscape.quality.perplexity import summarize
from kvscape.quality.protocols import Window, cut

TEXT = list(range(100, 1150))


class TokenScorer:
    """The log-probability of a token is its id / -1000, whatever came before; parts of 100 tokens."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def score_chunks(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        self.seen.append(list(token_ids))
        for start in range(1, len(token_ids), 100):
            yield np.asarray(token_ids[start : start + 100], np.float32) / np.float32(-1000)


def test_a_perplexity_is_that_of_the_scored_tokens() -> None:
    scorer = TokenScorer()
    result = perplexity(scorer, cut(TEXT, Settings("llamacpp", 512)))
    assert scorer.seen == [TEXT[:512], TEXT[512:1024]]
    assert result.tokens_scored == 2 * 255
    assert result.mean_nll == pytest.approx(np.mean(TEXT[257:512] + TEXT[769:1024]) / 1000, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.mean_nll))


def test_progress_has_the_perplexity_so_far() -> None:
    told: list[Running] = []
    result = perplexity(TokenScorer(), cut(TEXT, Settings("llamacpp", 512)), told.append)
    # of 255 tokens the first part has 44, behind two parts that are all context
    assert [one.tokens_done for one in told] == [44, 144, 244, 255, 299, 399, 499, 510]
    assert {one.tokens_total for one in told} == {510}
    assert told[0].perplexity == pytest.approx(math.exp(np.mean(TEXT[257:301]) / 1000))
    assert told[-1].perplexity == pytest.approx(result.perplexity)


def nll(*values: float) -> list[NDArray[np.float64]]:
    return [np.array(values)]


def window(tokens: int, **knobs: float) -> Window:
    return Window(list(range(tokens + 1)), first_target=1, **knobs)


def test_the_standard_error_is_that_of_the_perplexity() -> None:
    result = summarize(nll(1.0, 2.0, 4.0), [window(3)])
    assert result.standard_error == pytest.approx(math.exp(7 / 3) * np.std([1, 2, 4], ddof=1) / math.sqrt(3))


def test_one_token_has_no_standard_error() -> None:
    assert math.isnan(summarize(nll(1.0), [window(1)]).standard_error)


def test_a_token_counts_as_often_as_its_window_says() -> None:
    parts = [np.array([1.0, 2.0]), np.array([5.0, 7.0])]
    result = summarize(parts, [window(2), window(2, weight=0.5)])
    assert result.mean_nll == pytest.approx((1 + 2 + 0.5 * 12) / 3)
    assert result.tokens_scored == 4


def test_a_perplexity_of_words_shares_the_sum_among_the_words() -> None:
    parts = [np.array([1.0, 2.0]), np.array([5.0])]
    result = summarize(parts, [window(2, words=1.5), window(1, words=0.5)])
    assert result.mean_nll == pytest.approx(8 / 2)


def test_documents_as_hard_as_they_are_long_have_no_error() -> None:
    parts = [np.array([1.0, 1.0]), np.array([6.0])]
    assert summarize(parts, [window(2, words=1), window(1, words=3)]).standard_error == pytest.approx(0)


def test_bits_per_byte_count_the_bytes_of_the_text() -> None:
    parts = [np.array([1.0, 2.0]), np.array([5.0])]
    result = summarize(parts, [window(2, text_bytes=9), window(1, text_bytes=1, weight=0.5)])
    assert result.bits_per_byte == pytest.approx(8 / math.log(2) / 10)
    assert math.isnan(summarize(parts, [window(2, text_bytes=9), window(1)]).bits_per_byte)


def test_a_hopeless_model_has_an_infinite_perplexity() -> None:
    assert summarize(nll(800.0, 900.0), [window(2)]).perplexity == math.inf
