import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kvscape.errors import ConfigError
from kvscape.quality import Settings, perplexity
from kvscape.quality.perplexity import summarize
from kvscape.quality.protocols import cut

TEXT = list(range(100, 1150))


class TokenScorer:
    """The log-probability of a token is its id / -1000, whatever came before."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        self.seen.append(list(token_ids))
        return np.asarray(token_ids[1:], np.float32) / np.float32(-1000)


def test_windows_score_all_but_the_first_token_of_each_and_drop_the_rest() -> None:
    scorer = TokenScorer()
    result = perplexity(scorer, cut(TEXT, Settings("windows", 512)))
    assert scorer.seen == [TEXT[:512], TEXT[512:1024]]
    assert result.tokens_scored == 2 * 511
    assert result.mean_nll == pytest.approx(np.mean(TEXT[1:512] + TEXT[513:1024]) / 1000, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.mean_nll))


def test_llamacpp_scores_the_second_half_of_each_chunk() -> None:
    result = perplexity(TokenScorer(), cut(TEXT, Settings("llamacpp", 512)))
    assert result.tokens_scored == 2 * 255
    assert result.mean_nll == pytest.approx(np.mean(TEXT[257:512] + TEXT[769:1024]) / 1000, rel=1e-6)


def test_llamacpp_puts_bos_before_the_text_and_at_the_start_of_each_chunk() -> None:
    scorer = TokenScorer()
    perplexity(scorer, cut(TEXT, Settings("llamacpp", 512), bos=1))
    assert scorer.seen == [[1, *TEXT[:511]], [1, *TEXT[512:1023]]]


def test_the_limit_counts_windows() -> None:
    calls: list[None] = []
    result = perplexity(TokenScorer(), cut(TEXT, Settings("windows", 100, limit=3)), lambda: calls.append(None))
    assert (result.tokens_scored, len(calls)) == (3 * 99, 3)


def test_a_text_of_exactly_one_window_is_enough() -> None:
    assert len(cut(TEXT[:512], Settings("windows", 512))) == 1
    with pytest.raises(ConfigError, match="the text has 511 tokens: one window of 512 is needed"):
        cut(TEXT[:511], Settings("windows", 512))


def test_the_standard_error_is_that_of_the_perplexity() -> None:
    nll = np.array([1.0, 2.0, 4.0])
    result = summarize(nll)
    assert result.standard_error == pytest.approx(math.exp(7 / 3) * np.std(nll, ddof=1) / math.sqrt(3))


def test_the_standard_error_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    truth = math.exp(1.5)
    covered = 0
    for _ in range(1000):
        result = summarize(generator.gamma(shape=1.5, scale=1.0, size=400))
        covered += abs(result.perplexity - truth) < 1.96 * result.standard_error
    assert 930 <= covered <= 970


def test_an_unknown_protocol_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="did you mean 'llamacpp'"):
        Settings("llama.cpp")


@pytest.mark.parametrize(("context", "limit"), [(3, None), (512, 0)])
def test_settings_that_score_nothing_are_refused(context: int, limit: int | None) -> None:
    with pytest.raises(ConfigError):
        Settings("windows", context, limit)
