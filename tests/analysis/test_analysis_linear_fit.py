import numpy as np
import pytest

from kvscape.analysis.linear_fit import FloatArray, Prior, fit_times, student_quantile

TRUTH = np.array([0.6, 1.4, 0.9, 0.2])
PRIOR = Prior(np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.5]))


def rows(count: int, noise: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Terms of very different sizes and their times, each off by about ``noise``."""
    generator = np.random.default_rng(seed)
    terms = np.exp(generator.normal(0, 1.5, (count, 4)))
    return terms, terms @ TRUTH * np.exp(generator.normal(0, noise, count))


def test_exact_times_give_the_coefficients() -> None:
    terms, times = rows(30, 0.0, 0)
    fit = fit_times(terms, times, PRIOR)
    np.testing.assert_allclose(fit.coefficients, TRUTH, atol=0.01)
    np.testing.assert_allclose(fit.predict(terms), times, rtol=0.01)


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_the_noise_is_found(noise: float) -> None:
    assert fit_times(*rows(300, noise, 1), PRIOR).noise == pytest.approx(noise, rel=0.25)


@pytest.mark.parametrize(("count", "noise"), [(12, 0.05), (24, 0.05), (48, 0.15)])
def test_nineteen_of_twenty_new_times_lie_in_their_intervals(count: int, noise: float) -> None:
    held = []
    for seed in range(40):
        terms, times = rows(count + 25, noise, seed)
        low, high = fit_times(terms[:count], times[:count], PRIOR).interval(terms[count:])
        held.append((low <= times[count:]) & (times[count:] <= high))
    assert 0.90 <= np.mean(held) <= 0.99


def test_more_rows_make_intervals_narrower() -> None:
    def width(count: int) -> float:
        fits = [fit_times(*rows(count, 0.1, seed), PRIOR).interval(rows(50, 0.1, 99)[0]) for seed in range(20)]
        return float(np.mean([np.log(high / low) for low, high in fits]))

    assert width(100) < 0.8 * width(6)


def test_without_rows_the_prior_speaks_and_is_unsure() -> None:
    fit = fit_times(np.zeros((0, 4)), np.zeros(0), PRIOR)
    terms = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert fit.predict(terms) == pytest.approx([6.0])
    low, high = fit.interval(terms)
    assert low[0] < 3.0 and high[0] > 12.0


def test_what_was_never_measured_is_as_unsure_as_the_prior() -> None:
    terms = rows(40, 0.0, 5)[0]
    terms[:, 3] = 0
    fit = fit_times(terms, terms @ TRUTH, PRIOR)
    row = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 2.0]])
    low, high = fit.interval(row)
    assert high[0] / low[0] < 1.2
    assert high[1] / low[1] > 1.5


def test_a_disturbed_measurement_counts_less() -> None:
    terms, times = rows(24, 0.03, 6)
    times[7] *= 3
    fit = fit_times(terms, times, PRIOR)
    new, truth = rows(40, 0.0, 7)
    assert np.mean(np.abs(fit.predict(new) / truth - 1)) < 0.05
    assert fit.weights[7] < 0.1 < 0.9 < np.median(fit.weights)


def test_without_some_rows_is_what_the_others_alone_give() -> None:
    terms, times = rows(30, 0.05, 8)
    fit = fit_times(terms, times, PRIOR)
    out = np.arange(30) < 2
    alone = fit_times(terms[2:], times[2:], PRIOR).predict(terms[:2])
    np.testing.assert_allclose(fit.without(terms, times, out).predict(terms[:2]), alone, rtol=0.03)


def test_no_time_is_negative() -> None:
    terms, times = rows(12, 0.02, 9)
    fit = fit_times(terms, times, PRIOR)
    assert fit.predict(np.array([[0.0, 0.0, 0.001, 0.0], [1e-9, 0, 0, 0]])).min() > 0


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (np.inf, 1.960)])
def test_students_quantiles(freedom: float, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=0.02)
