"""Codes against a slow reference that follows the formula one weight at a time: MLC-LLM's own in f16 for 4 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays

from kvscape.errors import ConfigError, WeightsError
from kvscape.quantization.arrays import F32, U8
from kvscape.quantization.codes import pack_codes, unpack_codes
from kvscape.quantization.decode import decode, relative_error
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS

SYMMETRIC = ["q4f16_1", "q8f16_1"]
CODED = [*SYMMETRIC, "q4af16_1"]
# Whole range of f16, subnormals included.
weights = random_arrays(np.float32, (2, 64), elements=st.floats(-65504, 65504, width=16)) | random_arrays(
    np.float32, (2, 64), elements=st.floats(-(2**-12), 2**-12, width=16)
)


def slow_codes(group: F32, max_int: int) -> list[int]:
    """MLC rounds ratio and sum to f16; 8-bit codes, which are ours, come from the f32 ratio and sum."""
    half = group.astype(np.float16)
    scale = np.float16(np.abs(half).max() / np.float16(max_int))
    if scale == 0:
        return [max_int] * len(group)
    kind = np.float32 if max_int == 127 else np.float16
    sums = [kind(kind(w) / kind(scale)) + kind(max_int) for w in half]
    return [int(min(max(np.rint(value), 0), 2 * max_int)) for value in sums]


def normal(rows: int, columns: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


@pytest.mark.parametrize("name", SYMMETRIC)
@given(weight=weights)
def test_symmetric_codes_equal_the_formula(name: str, weight: F32) -> None:
    fmt = FORMATS[name]
    codes = unpack_codes(encode(weight, fmt)["q_weight"], fmt).reshape(-1, 32)
    assert codes.tolist() == [slow_codes(group, fmt.max_int) for group in weight.reshape(-1, 32)]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_ordinary_weights_equal_the_formula(name: str) -> None:
    fmt, weight = FORMATS[name], normal(40, 96)
    codes = unpack_codes(encode(weight, fmt)["q_weight"], fmt).reshape(-1, 32)
    assert codes.tolist() == [slow_codes(group, fmt.max_int) for group in weight.reshape(-1, 32)]


def test_half_goes_to_the_even_code() -> None:
    group = np.full((1, 32), 0.5, np.float32)
    group[0, :2] = 7, 1.5
    codes = unpack_codes(encode(group, FORMATS["q4f16_1"])["q_weight"], FORMATS["q4f16_1"])
    assert codes[0, :3].tolist() == [14, 8, 8]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_an_all_zero_group_has_the_code_of_zero(name: str) -> None:
    fmt = FORMATS[name]
    arrays = encode(np.zeros((2, 64), np.float32), fmt)
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


@pytest.mark.parametrize("name", CODED)
@given(weight=weights)
def test_an_error_is_at_most_about_half_a_step(name: str, weight: F32) -> None:
    fmt = FORMATS[name]
    if not fmt.symmetric:
        weight = weight / np.float32(2)  # the range of a group must fit in f16
    arrays = encode(weight, fmt)
    step = np.repeat(arrays["q_scale"].astype(np.float32), fmt.group_size, axis=-1)
    # f16 rounds scale, ratio and minimum: up to 2^-11 of the largest weight each, or the smallest subnormal.
    slack = np.abs(weight).max() * 2.0**-8 + fmt.max_int * 2.0**-23
    assert (np.abs(decode(arrays, fmt) - weight) <= 0.5 * step + slack).all()


@pytest.mark.parametrize("name", CODED)
@given(seed=st.integers(0, 99), rows=st.integers(1, 4), groups=st.integers(1, 3))
def test_packing_is_reversible_and_starts_in_the_lowest_bits(name: str, seed: int, rows: int, groups: int) -> None:
    fmt = FORMATS[name]
    codes: U8 = np.random.default_rng(seed).integers(0, 2**fmt.bits, (rows, 32 * groups), np.uint8)
    words = pack_codes(codes, fmt)
    assert words.shape == (rows, 32 * groups // fmt.codes_per_word)
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
@pytest.mark.parametrize("name", ["f16", *CODED])
def test_values_beyond_f16_are_an_error(name: str, value: float) -> None:
    weight = normal(1, 32)
    weight[0, 3] = value
    if name == "q4af16_1" and value == 7e4:
        weight[0, 3] = -value
    with pytest.raises(WeightsError, match="cannot be rounded to f16"):
        encode(weight, FORMATS[name])


def test_columns_that_do_not_split_are_an_error() -> None:
    with pytest.raises(ConfigError, match="rows of 33 weights"):
        encode(normal(2, 33), FORMATS["q8f16_1"])


@pytest.mark.parametrize("name", CODED)
def test_relative_error_is_squared_error_over_squares(name: str) -> None:
    weight, fmt = normal(500, 1024), FORMATS[name]
    arrays = encode(weight, fmt)
    expected = ((decode(arrays, fmt) - weight) ** 2).sum() / (weight**2).sum()
    assert relative_error(weight, arrays, fmt) == pytest.approx(expected, rel=1e-4)


def test_nothing_stored_as_zero_has_no_error() -> None:
    zero = np.zeros((2, 32), np.float32)
    assert relative_error(zero, encode(zero, FORMATS["q4f16_1"]), FORMATS["q4f16_1"]) == 0
