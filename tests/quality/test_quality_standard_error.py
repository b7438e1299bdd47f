"""On streams whose truth is known the 95 % interval holds it as often as it should."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from kvscape.quality.perplexity import summarize
from kvscape.quality.protocols import Window
from kvscape.quality.standard_error import Vector, sum_error

DRAWS = 1000
Draw = Callable[[np.random.Generator, int], Vector]


def independent(random: np.random.Generator, tokens: int) -> Vector:
    return random.gamma(shape=1.5, size=tokens)


def markov(stay: float) -> Draw:
    """Stretches of easy and of hard tokens, whose next state depends on the last."""

    def draw(random: np.random.Generator, tokens: int) -> Vector:
        state = (np.cumsum(random.random(tokens) > stay) + random.integers(2)) % 2
        return random.exponential(np.where(state, 2.4, 0.6))

    return draw


def coverage(draw: Draw, sizes: list[int]) -> int:
    random, covered = np.random.default_rng(0), 0
    windows = [Window(list(range(size + 1)), first_target=1) for size in sizes]
    for _ in range(DRAWS):
        parts = np.split(draw(random, sum(sizes)), np.cumsum(sizes)[:-1])
        result = summarize(parts, windows)
        covered += abs(result.perplexity - math.exp(1.5)) < 1.96 * result.standard_error
    return covered


@pytest.mark.parametrize("sizes", [[400], [255] * 16, [63] * 64, [300, 700, 50, 200]])
def test_the_interval_of_independent_tokens_covers_the_truth(sizes: list[int]) -> None:
    assert 930 <= coverage(independent, sizes) <= 970


@pytest.mark.parametrize(
    ("stay", "sizes"),
    [(0.8, [3000]), (0.95, [9000]), (0.95, [1023] * 6), (0.9, [127] * 64), (0.9, [800, 3000, 500])],
)
def test_the_interval_of_tokens_that_depend_on_their_neighbours_covers_the_truth(stay: float, sizes: list[int]) -> None:
    assert 930 <= coverage(markov(stay), sizes) <= 970


def test_tokens_taken_as_independent_would_be_too_sure() -> None:
    """What makes the test before one that can fail: 95 % intervals of the naive formula hold the truth in half."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        values = markov(0.95)(random, 2000)
        covered += abs(values.mean() - 1.5) < 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    assert covered < 800


def test_the_hard_first_tokens_of_each_window_are_no_chance() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=512) for _ in range(16)]
    shifted = [part + 8 * np.exp(-np.arange(512) / 10) for part in parts]
    assert sum_error(shifted) == pytest.approx(sum_error(parts))


def test_many_windows_are_stretches_themselves() -> None:
    parts = [np.full(10, float(index % 2)) for index in range(100)]
    assert sum_error(parts) < 10 * 0.5 * math.sqrt(100) / 2  # neighbours cancel, which single windows would not show


def test_two_values_are_the_least() -> None:
    assert math.isnan(sum_error([np.array([1.0])]))
    assert sum_error([np.array([1.0, 2.0])]) == pytest.approx(1.0)
    assert sum_error([np.array([1.0]), np.array([2.0])]) == pytest.approx(1.0)
