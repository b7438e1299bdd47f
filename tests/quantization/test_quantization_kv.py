from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays

from kvscape.quantization.arrays import F32
from kvscape.quantization.kv import (
    dequantize_int4,
    dequantize_int8,
    quantize_int4,
    quantize_int8,
    rotate,
    round_fp8,
    round_keys,
    round_values,
)

keys = random_arrays(np.float32, (2, 3, 16), elements=st.floats(-1e4, 1e4, width=32))


@given(x=keys)
def test_codes_and_scales_follow_the_formula_one_value_at_a_time(x: F32) -> None:
    codes, scales = quantize_int8(x)
    for head, code, scale in zip(x.reshape(-1, 16), codes.reshape(-1, 16), scales.ravel(), strict=True):
        assert scale == np.float16(np.float32(np.abs(head).max()) / np.float32(127))
        divisor = np.float32(scale)
        expected = [0 if divisor == 0 else max(-127, min(127, int(np.rint(value / divisor)))) for value in head]
        assert code.tolist() == expected


@given(x=keys)
def test_an_error_is_at_most_about_half_a_step(x: F32) -> None:
    codes, scales = quantize_int8(x)
    # The largest value is clipped by at most the f16 rounding of its scale; scales near zero are subnormal.
    slack = np.abs(x).max(-1) * 2.0**-11 + 127 * 2.0**-25
    error = np.abs(dequantize_int8(codes, scales) - x).max(-1)
    assert (error <= 0.5001 * scales.astype(np.float32) + slack).all()


def test_each_token_and_head_has_its_own_scale() -> None:
    x = np.ones((2, 3, 8), np.float32) * np.array([[1, 2, 3], [4, 5, 6]], np.float32)[..., None] * 127
    codes, scales = quantize_int8(x)
    assert scales.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (codes == 127).all()


def test_zeros_stay_zeros() -> None:
    codes, scales = quantize_int8(np.zeros((1, 2, 4), np.float32))
    assert not codes.any() and not scales.any()


def test_the_lowest_code_is_never_used() -> None:
    codes, _ = quantize_int8(np.array([[-1.0, 0.3, 1.0]], np.float32))
    assert codes[0, 0] == -127 and codes[0, 2] == 127


@given(x=keys)
def test_four_bits_follow_the_formula_one_value_at_a_time(x: F32) -> None:
    codes, scales, minimums = quantize_int4(x)
    for row, code, scale, minimum in zip(
        x.reshape(-1, 16), codes.reshape(-1, 16), scales.ravel(), minimums.ravel(), strict=True
    ):
        low, step = np.float32(minimum), np.float32(scale)
        assert minimum == np.float16(row.min())
        assert scale == np.float16((row.max() - low) / np.float32(15))
        expected = [0 if step <= 0 else max(0, min(15, int(np.rint((value - low) / step)))) for value in row]
        assert code.tolist() == expected


def test_four_bits_give_back_code_times_scale_plus_minimum() -> None:
    codes = np.arange(16, dtype=np.uint8)[None]
    scale, minimum = np.array([0.5], np.float16), np.array([-3.0], np.float16)
    assert dequantize_int4(codes, scale, minimum).tolist() == [[-3.0 + 0.5 * code for code in range(16)]]


@pytest.mark.parametrize("dim", [16, 64, 80, 96])
def test_a_rotation_is_a_hadamard_matrix_that_is_its_own_inverse(dim: int) -> None:
    matrix = rotate(np.eye(dim, dtype=np.float32))
    size = dim & -dim
    assert np.unique(np.abs(matrix[:size, :size])).tolist() == [np.float32(size**-0.5)]
    assert not matrix[size:, :size].any()
    np.testing.assert_allclose(matrix @ matrix, np.eye(dim), atol=1e-6)
    x = np.random.default_rng(0).standard_normal((3, dim)).astype(np.float32)
    np.testing.assert_allclose(rotate(rotate(x)), x, atol=1e-5)


def test_keys_are_rounded_by_dimension_in_groups_of_16_tokens() -> None:
    x = np.random.default_rng(0).standard_normal((37, 2, 8)).astype(np.float32)
    x[..., 3] *= 100  # an outlier in one dimension costs the others nothing
    rounded = round_keys(x, "int4")
    for start in (0, 16):
        codes, scale, minimum = quantize_int4(x[start : start + 16, 1, 5].astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(rounded[start : start + 16, 1, 5], dequantize_int4(codes, scale, minimum))
    np.testing.assert_array_equal(rounded[32:], x[32:].astype(np.float16).astype(np.float32))
    assert np.abs(rounded - x)[..., 5].max() < 0.3 < np.abs(rounded - x)[..., 3].max()


def test_a_value_with_an_outlier_loses_less_when_it_is_rotated() -> None:
    x = np.random.default_rng(0).standard_normal((20, 2, 64)).astype(np.float32)
    x[..., 7] = 30
    plain = dequantize_int4(*quantize_int4(x))
    error = [float(np.square(kept - x).mean()) for kept in (round_values(x, "int4"), plain)]
    assert error[0] < error[1] / 2


@pytest.mark.parametrize(("kv_dtype", "error"), [("f32", 0), ("f16", 2.0**-11), ("int8", 2 / 127)])
@pytest.mark.parametrize("rounding", [round_keys, round_values])
def test_precisions_lose_as_much_as_they_say(rounding: Callable[[F32, str], F32], kv_dtype: str, error: float) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (4, 2, 16)).astype(np.float32)
    lost = np.abs(rounding(x, kv_dtype) - x).max()
    assert lost <= error
    assert (lost > 0) == (kv_dtype != "f32")


def e4m3() -> F32:
    """All 127 numbers from 0 on, by their bits: 4 of exponent, 3 of mantissa."""
    exponent, mantissa = np.divmod(np.arange(127), 8)
    normal = (8 + mantissa) * 2.0 ** (exponent - 10)
    return np.where(exponent > 0, normal, mantissa * 2.0**-9).astype(np.float32)


def test_fp8_keeps_its_own_numbers() -> None:
    numbers = e4m3()
    assert numbers[1] == 2**-9 and numbers[8] == 2**-6 and numbers[-1] == 448
    np.testing.assert_array_equal(round_fp8(np.concatenate([numbers, -numbers])), np.concatenate([numbers, -numbers]))


def test_fp8_takes_the_nearest_number_and_the_even_one_of_two() -> None:
    numbers = e4m3()
    middle = (numbers[:-1] + numbers[1:]) * np.float32(0.5)
    even = np.where(np.arange(126) % 2, numbers[1:], numbers[:-1])
    np.testing.assert_array_equal(round_fp8(middle), even)
    np.testing.assert_array_equal(round_fp8(np.nextafter(middle, np.float32(0))), numbers[:-1])
    np.testing.assert_array_equal(round_fp8(np.nextafter(middle, np.float32(1e3))), numbers[1:])


def test_fp8_ends_at_448() -> None:
    x = np.array([[[449, -1e6, 0]]], np.float32)
    assert round_keys(x, "fp8").tolist() == round_values(x, "fp8").tolist() == [[[448, -448, 0]]]
