import numpy as np
import pytest

from kvscape.analysis.statistics import median_interval, relative_width, warm_up_runs


@pytest.mark.parametrize("noise", ["normal", "lognormal"])
def test_nineteen_of_twenty_intervals_hold_the_true_median(noise: str) -> None:
    generator = np.random.default_rng(1)
    drawn = getattr(generator, noise)(size=(400, 15))
    truth = 0.0 if noise == "normal" else 1.0
    bounds = np.array([median_interval(sample, resamples=300) for sample in drawn])
    held = np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
    assert 0.92 <= held <= 0.98


def test_half_the_confidence_gives_a_narrower_interval() -> None:
    sample = np.random.default_rng(2).normal(size=30)
    assert relative_width(median_interval(sample + 10, 0.5)) < 0.6 * relative_width(median_interval(sample + 10))


def test_the_seed_decides_and_nothing_else() -> None:
    sample = np.random.default_rng(3).normal(size=9)
    assert median_interval(sample) == median_interval(list(sample))
    assert median_interval(sample, seed=1, resamples=9) != median_interval(sample, seed=2, resamples=9)


def test_of_three_runs_the_interval_is_what_they_span() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_streams_of_one_run_are_drawn_together() -> None:
    levels = np.random.default_rng(4).normal(size=(8, 1))
    whole = np.repeat(levels, 50, axis=1)  # 50 streams that say no more than one
    assert median_interval(whole) == median_interval(levels)
    assert relative_width(median_interval(whole + 9)) > 3 * relative_width(median_interval(whole.ravel() + 9))


def test_what_differs_from_one_time_to_the_next_is_in_the_interval() -> None:
    generator = np.random.default_rng(5)
    series = generator.normal(size=(200, 6, 1)) + 0.2 * generator.normal(size=(200, 6, 3))
    held = {}
    for name, repeats in (("times", [3] * 6), ("runs", [])):
        bounds = np.array([median_interval(one.ravel(), resamples=300, repeats=repeats) for one in series])
        held[name] = np.mean((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0))
    assert held["times"] > 0.85 and held["runs"] < 0.8
    assert median_interval([1.0, 1.1, 5.0], repeats=[2, 1]) == (1.0, 5.0)


def test_equal_values_have_no_width() -> None:
    assert median_interval([5.0] * 4) == (5.0, 5.0)
    assert relative_width((97.0, 103.0)) == pytest.approx(0.03)
    assert relative_width((0.0, 0.0)) == np.inf


@pytest.mark.parametrize(
    ("times", "dropped"),
    [
        ([1.0], 1),
        ([9.0, 1.0], 1),
        ([1.0, 1.0, 1.0, 1.0], 1),
        ([3.0, 2.0, 1.0, 1.01, 0.99], 2),
        ([3.0, 2.0, 1.5, 1.0, 1.01, 0.99], 3),
        ([9.0, 1.05, 1.0, 1.01, 0.99], 1),  # slower than all that follow, but hardly
        ([9.0, 1.5, 1.0, 1.6, 1.0, 1.0], 1),  # the level itself has such runs
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 3),  # never more than half
    ],
)
def test_runs_before_the_level_are_no_samples(times: list[float], dropped: int) -> None:
    assert warm_up_runs(times) == dropped
