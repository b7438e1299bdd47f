"""What weights are calibrated on."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kvscape import LLM
from kvscape.calibration.windows import windows_of, written_windows
from kvscape.errors import ConfigError


def test_a_short_text_is_used_whole_but_for_its_rest() -> None:
    windows = windows_of(range(43), most=64, window=8, bos=None)
    np.testing.assert_array_equal(windows, np.arange(40).reshape(5, 8))


def test_of_a_long_text_windows_are_taken_evenly_from_beginning_to_end() -> None:
    first_tokens = windows_of(range(800), most=5, window=8, bos=None)[:, 0]
    np.testing.assert_array_equal(first_tokens, [0, 25 * 8, 50 * 8, 74 * 8, 99 * 8])


def test_each_window_begins_as_the_models_texts_do() -> None:
    windows = windows_of(range(10, 42), most=64, window=8, bos=1)
    np.testing.assert_array_equal(windows[:, :2], [[1, 11], [1, 19], [1, 27], [1, 35]])


def test_a_text_that_is_too_short_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="too short: it has 31 tokens; give at least 32"):
        windows_of(range(31), most=64, window=8, bos=None)


def test_a_model_writes_texts_that_differ_and_are_the_same_again(open_llm: Callable[..., LLM], long_gguf: Path) -> None:
    told: list[tuple[int, int]] = []
    with open_llm(long_gguf, context_window_size=24, max_batch_size=16, prefix_cache=False) as llm:
        windows = written_windows(llm, 18, 24, seed=3, progress=lambda *done: told.append(done))
        again = written_windows(llm, 18, 24, seed=3, progress=lambda *done: None)
        other = written_windows(llm, 18, 24, seed=4, progress=lambda *done: None)
    assert windows.shape == (18, 24)
    assert len({tuple(window) for window in windows.tolist()}) == 18
    np.testing.assert_array_equal(windows, again)
    assert (windows != other).any()
    assert told[-1] == (18 * 24, 18 * 24)
    assert all(before[0] <= after[0] for before, after in pairwise(told))
