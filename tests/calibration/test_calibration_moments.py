"""What the rounding of a matrix knows of its inputs, against the inputs themselves."""

import numpy as np
import pytest

from kvscape.calibration.moments import Moments
from kvscape.calibration.scales import least_error_constants
from kvscape.quantization.arrays import F32, Array
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode_codes, nearest_codes
from kvscape.quantization.format import FORMATS

RANDOM = np.random.default_rng(0)
EXACT: F32 = RANDOM.standard_normal((500, 20), np.float32) @ RANDOM.standard_normal((20, 20), np.float32)
ROUNDED: F32 = EXACT + RANDOM.standard_normal((500, 20), np.float32) * np.linspace(0, 3, 20, dtype=np.float32)
WEIGHT: F32 = RANDOM.standard_normal((6, 20), np.float32)


def moments() -> Moments:
    """Of the tokens in three parts."""
    return Moments.of((ROUNDED[rows], EXACT[rows]) for rows in map(slice, (0, 100, 300), (100, 300, 500)))


def test_sums_go_over_all_parts() -> None:
    np.testing.assert_allclose(moments().hessian, ROUNDED.T.astype(np.float64) @ ROUNDED, rtol=1e-5)
    np.testing.assert_allclose(moments().shift, (EXACT - ROUNDED).T @ ROUNDED, rtol=1e-3, atol=0.1)


def test_a_weight_that_is_corrected_whole_answers_as_least_squares_do() -> None:
    corrected = WEIGHT + WEIGHT @ moments().correction(1.0, 1e-9)
    expected = np.linalg.lstsq(ROUNDED, EXACT @ WEIGHT.T, rcond=None)[0].T
    np.testing.assert_allclose(corrected, expected, rtol=1e-2, atol=1e-3)


def test_a_share_of_the_correction_is_taken() -> None:
    np.testing.assert_allclose(moments().correction(0.5, 0.01), moments().correction(1.0, 0.01) / 2, rtol=1e-6)


def test_inputs_without_an_error_correct_nothing() -> None:
    assert not Moments.of([(EXACT, EXACT)]).correction(1.0, 0.01).any()


def test_importance_is_that_of_the_inputs_squares() -> None:
    squares = np.square(ROUNDED, dtype=np.float64).mean(0)
    np.testing.assert_allclose(moments().importance, squares / squares.mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["q3f16_1", "q4f16_1", "q4af16_1"])
def test_columns_that_matter_more_lose_less(name: str) -> None:
    fmt, weight = FORMATS[name], np.random.default_rng(1).standard_normal((64, 70), np.float32)
    importance = np.where(np.arange(70) % 4, np.float32(0.01), np.float32(10))

    def error(constants: list[Array]) -> float:
        rounded = decode(encode_codes(nearest_codes(weight, constants, fmt), constants, fmt), fmt, 70)
        return float((np.square(rounded - weight) * importance).sum())

    weighed = error(least_error_constants(weight, fmt, importance))
    assert weighed < 0.9 * error(least_error_constants(weight, fmt))
