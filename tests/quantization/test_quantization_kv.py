import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays

from kvscape.quantization.arrays import F32
from kvscape.quantization.kv import dequantize_kv, quantize_kv, round_kv

keys = random_arrays(np.float32, (2, 3, 16), elements=st.floats(-1e4, 1e4, width=32))


@given(x=keys)
def test_codes_and_scales_follow_the_formula_one_value_at_a_time(x: F32) -> None:
    codes, scales = quantize_kv(x)
    for head, code, scale in zip(x.reshape(-1, 16), codes.reshape(-1, 16), scales.ravel(), strict=True):
        assert scale == np.float16(np.float32(np.abs(head).max()) / np.float32(127))
        divisor = np.float32(scale)
        expected = [0 if divisor == 0 else max(-127, min(127, int(np.rint(value / divisor)))) for value in head]
        assert code.tolist() == expected


@given(x=keys)
def test_an_error_is_at_most_about_half_a_step(x: F32) -> None:
    codes, scales = quantize_kv(x)
    # The largest value is clipped by at most the f16 rounding of its scale; scales near zero are subnormal.
    slack = np.abs(x).max(-1) * 2.0**-11 + 127 * 2.0**-25
    error = np.abs(dequantize_kv(codes, scales) - x).max(-1)
    assert (error <= 0.5001 * scales.astype(np.float32) + slack).all()


def test_each_token_and_head_has_its_own_scale() -> None:
    x = np.ones((2, 3, 8), np.float32) * np.array([[1, 2, 3], [4, 5, 6]], np.float32)[..., None] * 127
    codes, scales = quantize_kv(x)
    assert scales.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (codes == 127).all()


def test_zeros_stay_zeros() -> None:
    codes, scales = quantize_kv(np.zeros((1, 2, 4), np.float32))
    assert not codes.any() and not scales.any()


def test_the_lowest_code_is_never_used() -> None:
    codes, _ = quantize_kv(np.array([[-1.0, 0.3, 1.0]], np.float32))
    assert codes[0, 0] == -127 and codes[0, 2] == 127


@pytest.mark.parametrize(("kv_dtype", "error"), [("f32", 0), ("f16", 2.0**-11), ("int8", 1 / 127)])
def test_precisions_lose_as_much_as_they_say(kv_dtype: str, error: float) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (4, 2, 16)).astype(np.float32)
    lost = np.abs(round_kv(x, kv_dtype) - x).max()
    assert lost <= error
    assert (lost > 0) == (kv_dtype != "f32")
