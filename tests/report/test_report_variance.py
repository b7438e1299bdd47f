"""Shares of the variance: the classical ones on a full grid, and still a sum on any other set of points."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from kvscape.report.variance import effects

KNOBS = ["quantization", "kv_dtype", "max_batch_size"]


def grid(noise: float = 0.0) -> pl.DataFrame:
    """Speed is a product of one factor for each choice, so its logarithm is a sum."""
    random = np.random.default_rng(0)
    rows = [
        {
            "quantization": q,
            "kv_dtype": kv,
            "max_batch_size": batch,
            "decode_tokens_per_s": 100.0 * a * b * c * float(np.exp(noise * random.standard_normal())),
        }
        for (q, a), (kv, b), (batch, c) in product(
            [("auto", 1.0), ("q8f16_1", 0.8), ("q4f16_1", 1.1)], [("f16", 1.0), ("int8", 1.3)], [(1, 1.0), (4, 3.0)]
        )
    ]
    return pl.DataFrame(rows)


def classical(frame: pl.DataFrame, knob: str) -> float:
    """The sum of squares between a knob's groups over the total, as a one-way analysis of variance has it."""
    logs = frame.with_columns(y=pl.col("decode_tokens_per_s").log())
    means = logs.group_by(knob).agg(pl.col("y").mean(), pl.len())
    total = float(((logs["y"] - logs["y"].mean()) ** 2).sum())
    return float((means["len"] * (means["y"] - logs["y"].mean()) ** 2).sum()) / total


def test_a_full_grid_has_the_shares_of_the_analysis_of_variance() -> None:
    frame = grid(noise=0.1)
    found = effects(frame, "decode_tokens_per_s", KNOBS)
    assert found is not None
    for knob in KNOBS:
        assert found.shares[knob] == pytest.approx(classical(frame, knob), abs=1e-9)
    assert sum(found.shares.values()) == pytest.approx(found.explained)
    assert 0.9 < found.explained < 1


def test_effects_are_ratios_between_the_choices() -> None:
    found = effects(grid(), "decode_tokens_per_s", KNOBS)
    assert found is not None and found.explained == pytest.approx(1)
    batch = dict(found.levels["max_batch_size"])
    assert batch[4] / batch[1] == pytest.approx(3)
    assert batch[4] * batch[1] == pytest.approx(1)  # the average lies between them


def test_shares_add_up_where_points_are_missing_too() -> None:
    frame = grid(noise=0.1)[[0, 1, 2, 4, 5, 7, 8, 9, 11]]
    found = effects(frame, "decode_tokens_per_s", KNOBS)
    assert found is not None and found.points == 9
    assert sum(found.shares.values()) == pytest.approx(found.explained)


def test_two_knobs_that_always_move_together_share_what_they_explain() -> None:
    frame = grid().with_columns(prefill_chunk_size=pl.col("max_batch_size") * 128)
    found = effects(frame, "decode_tokens_per_s", [*KNOBS, "prefill_chunk_size"])
    assert found is not None
    assert found.shares["prefill_chunk_size"] == pytest.approx(found.shares["max_batch_size"])


def test_a_number_with_many_values_has_a_smooth_effect() -> None:
    sizes = [2**power for power in range(5, 15)]
    frame = pl.DataFrame({"context_window_size": sizes, "decode_tokens_per_s": [1000 * size**-0.2 for size in sizes]})
    found = effects(frame, "decode_tokens_per_s", ["context_window_size"])
    assert found is not None and found.explained == pytest.approx(1)
    levels = dict(found.levels["context_window_size"])
    assert levels[32] / levels[64] == pytest.approx(2**0.2)


@pytest.mark.parametrize("rows", [slice(0, 2), slice(0, 3)])
def test_too_few_points_explain_nothing(rows: slice) -> None:
    assert effects(grid(noise=0.1)[rows], "decode_tokens_per_s", KNOBS) is None


def test_a_measure_that_does_not_move_has_no_effects() -> None:
    assert effects(grid().with_columns(decode_tokens_per_s=7.0), "decode_tokens_per_s", KNOBS) is None
