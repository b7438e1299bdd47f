"""GPTQ in blocks against the plain derivation, and against rounding without a text."""

import numpy as np
import pytest
from slow_gptq import slow_gptq

from kvscape.calibration.gptq import F64, damped, gptq_codes, influence
from kvscape.calibration.scales import least_error_constants
from kvscape.quantization.arrays import F32, U8, Array
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode, encode_codes, nearest_codes
from kvscape.quantization.format import FORMATS, Format

CODED_NAMES = [name for name, fmt in FORMATS.items() if not fmt.is_float]
CODED = pytest.mark.parametrize("name", CODED_NAMES)
COLUMNS = (32, 70)  # one group; a last one that is not full


def normal(rows: int, columns: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


def correlated_inputs(columns: int, tokens: int = 600) -> F32:
    """Inputs that have much in common, some far larger than others."""
    sizes = np.exp(normal(1, columns, 1))
    return (normal(tokens, columns, 2) @ normal(columns, columns, 3) * sizes).astype(np.float32)


def hessian_of(x: F32) -> F64:
    return x.T.astype(np.float64) @ x


def output_error(x: F32, weight: F32, codes: U8, constants: list[Array], fmt: Format) -> float:
    rounded = decode(encode_codes(codes, constants, fmt), fmt, weight.shape[1])
    return float(np.linalg.norm(x @ (weight - rounded).T))


@pytest.mark.parametrize(
    ("name", "columns"), [*((name, 70) for name in CODED_NAMES), ("q4f16_1", 140), ("q3f16_1", 32)]
)
def test_blocks_give_the_codes_of_the_plain_derivation(name: str, columns: int) -> None:
    """140 columns are more than a block of them."""
    fmt, weight, x = FORMATS[name], normal(4, columns), correlated_inputs(columns)
    constants = least_error_constants(weight, fmt)
    hessian = hessian_of(x)
    codes = gptq_codes(weight, constants, fmt, influence(damped(hessian, 0.01)))
    expected = slow_gptq(weight, constants, fmt, hessian, 0.01)
    # Where a value lies between two codes, the last bit of f32 decides.
    assert (codes != expected).mean() < 0.002
    assert output_error(x, weight, codes, constants, fmt) == pytest.approx(
        output_error(x, weight, expected, constants, fmt), rel=0.02
    )


@CODED
def test_inputs_that_have_nothing_in_common_give_the_nearest_codes(name: str) -> None:
    fmt, weight = FORMATS[name], normal(8, 100)
    constants = least_error_constants(weight, fmt)
    codes = gptq_codes(weight, constants, fmt, influence(np.eye(100) * 7))
    np.testing.assert_array_equal(codes, nearest_codes(weight, constants, fmt))


@CODED
@pytest.mark.parametrize("columns", COLUMNS)
def test_the_products_error_falls(name: str, columns: int) -> None:
    fmt, weight, x = FORMATS[name], normal(48, columns), correlated_inputs(columns)
    constants = least_error_constants(weight, fmt)
    codes = gptq_codes(weight, constants, fmt, influence(damped(hessian_of(x), 0.01)))
    nearest = output_error(x, weight, nearest_codes(weight, constants, fmt), constants, fmt)
    assert output_error(x, weight, codes, constants, fmt) < 0.9 * nearest


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    fmt, weight, x = FORMATS["q4f16_1"], normal(4, 64), correlated_inputs(64)
    x[:, 10:20] = 0
    constants = least_error_constants(weight, fmt)
    for inputs in (x, np.zeros_like(x)):
        codes = gptq_codes(weight, constants, fmt, influence(damped(hessian_of(inputs), 0.01)))
        np.testing.assert_array_equal(codes[:, 10:20], nearest_codes(weight, constants, fmt)[:, 10:20])


@CODED
def test_searched_constants_lose_less_than_the_largest_weights_do(name: str) -> None:
    fmt, weight = FORMATS[name], normal(16, 230)
    constants = least_error_constants(weight, fmt)
    found = decode(encode_codes(nearest_codes(weight, constants, fmt), constants, fmt), fmt, 230)
    plain = decode(encode(weight, fmt), fmt, 230)
    assert {constant.dtype for constant in constants} == {np.dtype(fmt.scale_dtype)}
    assert np.square(found - weight).sum() <= np.square(plain - weight).sum()


@pytest.mark.parametrize("name", ["q3f16_1", "q4f16_1"])
def test_a_scale_may_be_negative_so_that_the_farther_side_gets_one_step_more(name: str) -> None:
    fmt = FORMATS[name]
    steps = np.arange(-fmt.max_int, fmt.max_int + 2, dtype=np.float32)
    for sign in (1, -1):
        weight: F32 = np.resize(sign * steps / np.float32(8), fmt.group_size)[None].astype(np.float32)
        constants = least_error_constants(weight, fmt)
        codes = nearest_codes(weight, constants, fmt)
        assert np.sign(constants[0].item()) == sign
        assert codes.max() == fmt.top_code


@CODED
def test_groups_of_zeros_stay_zeros(name: str) -> None:
    fmt, weight = FORMATS[name], np.zeros((2, 50), np.float32)
    constants = least_error_constants(weight, fmt)
    codes = gptq_codes(weight, constants, fmt, influence(damped(hessian_of(correlated_inputs(50)), 0.01)))
    assert not decode(encode_codes(codes, constants, fmt), fmt, 50).any()
