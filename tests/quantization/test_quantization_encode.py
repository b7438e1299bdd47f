"""Codes against a slow reference that follows the formulas one weight at a time: MLC-LLM's where it has the format."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays
from slow_encode import SLOW_FORMATS, slow_decode, slow_encode

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F32, U8
from kvscape.quantization.codes import pack_codes, unpack_codes
from kvscape.quantization.decode import decode, relative_error
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS

CODED = list(SLOW_FORMATS)
SYMMETRIC = [name for name in CODED if SLOW_FORMATS[name].symmetric]
HALF_SCALES = [name for name in CODED if SLOW_FORMATS[name].scale is np.float16]
FLOAT_SCALES = [name for name in CODED if SLOW_FORMATS[name].scale is np.float32]
CODE = pytest.mark.parametrize("name", CODED)


def ranges(width: Literal[16, 32]) -> list[st.SearchStrategy[float]]:
    """Ordinary and largest numbers, subnormal ones, and numbers of one sign; 0 is among all of them."""
    most = 65504.0 if width == 16 else 2.0**100
    least = 2.0**-14 if width == 16 else 2.0**-126
    bounds = [(-most, most), (-4 * least, 4 * least), (0.0, 1.0), (-1.0, 0.0)]
    return [st.floats(low, high, width=width) for low, high in bounds]


@st.composite
def weights(draw: st.DrawFn, name: str) -> F32:
    """[2, K] with up to three groups, the last of them perhaps in part; groups differ in their ranges."""
    group = SLOW_FORMATS[name].group
    elements = st.sampled_from(ranges(16 if name in HALF_SCALES else 32))
    columns = draw(st.integers(1, 3 * group))
    starts = range(0, columns, group)
    parts = [draw(random_arrays(np.float32, (2, min(group, columns - at)), elements=draw(elements))) for at in starts]
    weight: F32 = np.concatenate(parts, axis=1)
    # The range of a group must fit in the type of its scale.
    return weight if SLOW_FORMATS[name].symmetric else weight / np.float32(2)


def normal(rows: int, columns: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


@CODE
@given(data=st.data())
def test_arrays_equal_the_formula_bit_by_bit(name: str, data: st.DataObject) -> None:
    weight = data.draw(weights(name))
    arrays, expected = encode(weight, FORMATS[name]), slow_encode(weight, name)
    assert {key: array.dtype for key, array in arrays.items()} == {key: a.dtype for key, a in expected.items()}
    for key, array in arrays.items():
        assert array.tobytes() == expected[key].tobytes(), key


@CODE
@pytest.mark.parametrize("columns", [32, 40, 96, 120, 100, 81, 7])
def test_ordinary_weights_equal_the_formula(name: str, columns: int) -> None:
    weight = normal(20, columns)
    arrays, expected = encode(weight, FORMATS[name]), slow_encode(weight, name)
    for key, array in arrays.items():
        assert array.tobytes() == expected[key].tobytes(), key
    decoded = decode(arrays, FORMATS[name], columns)
    np.testing.assert_allclose(decoded, slow_decode(expected, name, columns), rtol=1e-6, atol=1e-6)


@CODE
def test_codes_of_a_tail_group_are_followed_by_zero_bits(name: str) -> None:
    """And its scale is that of its own weights: those of MLC-LLM are padded so."""
    fmt, weight = FORMATS[name], normal(3, 50)
    arrays = encode(weight, fmt)
    codes = unpack_codes(arrays["q_weight"], fmt)
    assert codes.shape == (3, 2 * fmt.group_size) and not codes[:, 50:].any()
    alone = encode(weight[:, fmt.group_size :], fmt)
    assert all((arrays[constant][:, 1:] == alone[constant]).all() for constant in fmt.constants)


def test_half_goes_to_the_even_code() -> None:
    group = np.full((1, 32), 0.5, np.float32)
    group[0, :2] = 7, 1.5
    codes = unpack_codes(encode(group, FORMATS["q4f16_1"])["q_weight"], FORMATS["q4f16_1"])
    assert codes[0, :3].tolist() == [14, 8, 8]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_an_all_zero_group_has_the_code_of_zero(name: str) -> None:
    fmt = FORMATS[name]
    arrays = encode(np.zeros((2, 2 * fmt.group_size), np.float32), fmt)
    assert (unpack_codes(arrays["q_weight"], fmt) == fmt.max_int).all()
    assert not arrays["q_scale"].any()


def test_eight_bit_codes_keep_what_an_f16_sum_would_round_away() -> None:
    group = np.full((1, 32), 4.4375, np.float32)
    group[0, 0] = 127
    codes = unpack_codes(encode(group, FORMATS["q8f16_1"])["q_weight"], FORMATS["q8f16_1"])
    assert np.float16(4.4375) + np.float16(127) == 131.5, "and half to even would make 132 of it"
    assert codes[0, :2].tolist() == [254, 131]


def test_asymmetric_codes_span_minimum_to_maximum() -> None:
    weight = np.linspace(-3, 12, 32, dtype=np.float32)[None]
    arrays = encode(weight, FORMATS["q4af16_1"])
    assert arrays["q_min"].tolist() == [[-3]] and arrays["q_scale"].tolist() == [[1]]
    assert unpack_codes(arrays["q_weight"], FORMATS["q4af16_1"])[0].tolist() == np.rint(weight[0] + 3).tolist()


def test_a_flat_group_decodes_to_its_value() -> None:
    weight = np.full((1, 32), -0.75, np.float32)
    assert (decode(encode(weight, FORMATS["q4af16_1"]), FORMATS["q4af16_1"]) == weight).all()


@CODE
@given(data=st.data())
def test_an_error_is_at_most_about_half_a_step(name: str, data: st.DataObject) -> None:
    weight, fmt = data.draw(weights(name)), FORMATS[name]
    columns = weight.shape[1]
    arrays = encode(weight, fmt)
    step = np.repeat(arrays["q_scale"].astype(np.float32), fmt.group_size, axis=-1)[:, :columns]
    # Scale, ratio and minimum are rounded: to f16, up to 2^-11 of the largest weight each, or the smallest subnormal.
    slack = np.abs(weight).max() * 2.0**-8 + fmt.max_int * 2.0**-23
    assert (np.abs(decode(arrays, fmt, columns) - weight) <= 0.5 * step + slack).all()


@CODE
@given(seed=st.integers(0, 99), rows=st.integers(1, 4), groups=st.integers(1, 3))
def test_packing_is_reversible_and_starts_in_the_lowest_bits(name: str, seed: int, rows: int, groups: int) -> None:
    fmt = FORMATS[name]
    columns = groups * fmt.group_size
    codes: U8 = np.random.default_rng(seed).integers(0, 2**fmt.bits, (rows, columns), np.uint8)
    words = pack_codes(codes, fmt)
    assert words.shape == (rows, columns // fmt.codes_per_word) and words.dtype == np.uint32
    assert (unpack_codes(words, fmt) == codes).all()
    first = sum(int(code) << (fmt.bits * i) for i, code in enumerate(codes[0, : fmt.codes_per_word]))
    assert words[0, 0] == first


def test_plain_formats_keep_what_they_can() -> None:
    weight = normal(3, 5)
    assert (decode(encode(weight, FORMATS["f32"]), FORMATS["f32"]) == weight).all()
    assert encode(weight, FORMATS["f16"])["weight"].dtype == np.float16


def test_blocks_of_rows_join_without_a_seam() -> None:
    weight, fmt = normal(700, 1024), FORMATS["q4f16_1"]
    whole, last = encode(weight, fmt), encode(weight[600:], fmt)
    assert (whole["q_weight"][600:] == last["q_weight"]).all()
    assert (decode(whole, fmt)[600:] == decode(last, fmt)).all()


@pytest.mark.parametrize("value", [np.inf, np.nan, 7e4])
@pytest.mark.parametrize("name", ["f16", *HALF_SCALES])
def test_values_beyond_f16_are_an_error(name: str, value: float) -> None:
    weight = normal(1, 32)
    weight[0, 3] = value
    if name == "q4af16_1" and value == 7e4:
        weight[0, 3] = -value
    with pytest.raises(WeightsError, match="cannot be rounded to f16"):
        encode(weight, FORMATS[name])


@pytest.mark.parametrize("name", FLOAT_SCALES)
def test_f32_scales_hold_what_is_beyond_f16_and_finite(name: str) -> None:
    weight = normal(1, 32) * np.float32(1e30)
    np.testing.assert_allclose(decode(encode(weight, FORMATS[name]), FORMATS[name]), weight, atol=2.5e29)
    for value in (np.inf, np.nan):
        weight[0, 3] = value
        with pytest.raises(WeightsError, match="it is not finite"):
            encode(weight, FORMATS[name])


@CODE
def test_relative_error_is_squared_error_over_squares(name: str) -> None:
    weight, fmt = normal(500, 1030), FORMATS[name]
    arrays = encode(weight, fmt)
    expected = ((decode(arrays, fmt, 1030) - weight) ** 2).sum() / (weight**2).sum()
    assert relative_error(weight, arrays, fmt) == pytest.approx(expected, rel=1e-4)


def test_nothing_stored_as_zero_has_no_error() -> None:
    zero = np.zeros((2, 32), np.float32)
    assert relative_error(zero, encode(zero, FORMATS["q4f16_1"]), FORMATS["q4f16_1"]) == 0
