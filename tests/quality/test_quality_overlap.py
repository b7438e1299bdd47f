"""Scores of text that a model was calibrated on are marked."""

import numpy as np
import pytest

from kvscape.quality.overlap import RUN, overlap

WINDOWS = np.random.default_rng(0).integers(0, 1000, (4, 64))


def unknown(count: int) -> list[int]:
    token_ids: list[int] = np.random.default_rng(1).integers(0, 1000, count).tolist()
    return token_ids


def test_the_same_text_overlaps_all_of_it_and_another_not_at_all() -> None:
    assert overlap(WINDOWS.tolist(), WINDOWS) == 1
    assert overlap([unknown(500)], WINDOWS) == 0


@pytest.mark.parametrize(("shared", "counted"), [(RUN - 1, 0), (RUN, RUN), (40, 40)])
def test_tokens_in_runs_that_are_long_enough_count(shared: int, counted: int) -> None:
    text = [*unknown(30), *WINDOWS[2, 11 : 11 + shared].tolist(), *unknown(17)]
    assert overlap([text, unknown(100)], WINDOWS) == pytest.approx(counted / (len(text) + 100))


def test_the_same_tokens_in_another_order_are_another_text() -> None:
    assert overlap([WINDOWS[0, ::-1].tolist()], WINDOWS) == 0


def test_runs_do_not_go_on_from_one_text_or_window_to_the_next() -> None:
    half = RUN // 2
    assert overlap([WINDOWS[0, :half].tolist(), WINDOWS[0, half:RUN].tolist()], WINDOWS) == 0
    across = [*WINDOWS[0, -half:].tolist(), *WINDOWS[1, : RUN - half].tolist()]
    assert overlap([across], WINDOWS) == 0


def test_nothing_scored_is_no_overlap() -> None:
    assert overlap([], WINDOWS) == 0
    assert overlap([[1, 2]], WINDOWS) == 0
