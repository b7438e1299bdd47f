"""8-bit activations against the formula, down to the smallest numbers."""

from functools import cache

import numpy as np
import pytest
from built_kernels import DIFFERENT_ISAS, Array, Kernels, set_threads

from kvscape.compiler.kernels.cpu.quantize import quantize

K = 96
TINY = np.float32(np.finfo(np.float32).tiny)
ISA = pytest.mark.parametrize("isa", DIFFERENT_ISAS)
# 40 does not divide 96: the last group of a row is one of 16.
GROUP = pytest.mark.parametrize("group", [32, 40])


@cache
def kernels(isa: str) -> Kernels:
    return Kernels({f"quantize_by_{group}": quantize(K, group) for group in (32, 40)}, isa)


def quantized(isa: str, x: Array, group: int = 32) -> tuple[Array, ...]:
    n, groups = len(x), -(-K // group)
    outputs = [((n, groups * group), "int8"), ((n, groups), "float32"), ((n, groups), "int32")]
    return kernels(isa)(f"quantize_by_{group}", [x], outputs)


def reference(x: Array, group: int = 32) -> tuple[Array, Array, Array]:
    padded = np.pad(x, ((0, 0), (0, -K % group)))
    groups = padded.reshape(len(x), -1, group)
    scale = np.abs(groups).max(-1) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scale >= TINY, np.float32(1) / scale, np.float32(0))
    codes = np.rint(groups * inverse[..., None]).astype(np.int64)
    return codes.reshape(padded.shape), scale, codes.sum(-1)


def normal(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, K), np.float32)


@ISA
@GROUP
@pytest.mark.parametrize("n", [1, 3, 4, 9])
@pytest.mark.parametrize("magnitude", [1e-35, 1e-6, 1.0, 1e30])
def test_codes_scales_and_sums_follow_the_formula(isa: str, group: int, n: int, magnitude: float) -> None:
    x = normal(n) * np.float32(magnitude)
    codes, scale, total = reference(x, group)
    got_codes, got_scale, got_total = quantized(isa, x, group)
    np.testing.assert_array_equal(got_codes, codes)
    np.testing.assert_array_equal(got_scale, scale)
    np.testing.assert_array_equal(got_total, total)
    step = np.repeat(got_scale, group, axis=-1)[:, :K]
    assert (np.abs(got_codes[:, :K] * step - x) <= 0.501 * step).all()


@ISA
def test_a_tail_is_a_group_and_zeros_follow_it(isa: str) -> None:
    x = normal(5)
    codes, scale, total = quantized(isa, x, 40)
    assert not codes[:, 96:].any()
    np.testing.assert_array_equal(np.abs(codes[:, 80:96]).max(-1), 127)
    np.testing.assert_array_equal(scale[:, 2], np.abs(x[:, 80:]).max(-1) / np.float32(127))
    np.testing.assert_array_equal(total[:, 2], codes[:, 80:96].sum(-1, dtype=np.int32))


@ISA
def test_half_goes_to_the_even_code(isa: str) -> None:
    x = np.zeros((1, K), np.float32)
    x[0, :6] = 127, 0.5, 1.5, 2.5, -0.5, -1.5
    codes, scale, total = quantized(isa, x)
    assert codes[0, :6].tolist() == [127, 0, 2, 2, 0, -2]
    assert (scale[0, 0], total[0, 0]) == (1, 129)


@ISA
def test_a_group_of_zeros_has_scale_zero_and_codes_zero(isa: str) -> None:
    x = normal(5)
    x[:, 32:64] = 0
    codes, scale, total = quantized(isa, x)
    assert not codes[:, 32:64].any() and not scale[:, 1].any() and not total[:, 1].any()
    assert scale[:, 0].all() and scale[:, 2].all()


@ISA
def test_no_code_leaves_the_range_and_every_group_reaches_127(isa: str) -> None:
    """The code is x times the reciprocal of a rounded scale: neither rounding may carry the largest value past 127."""
    random = np.random.default_rng(1)
    x = normal(60_000) * (2.0 ** random.uniform(-110, 110, (60_000, 1))).astype(np.float32)
    codes, _, total = quantized(isa, x)
    groups = codes.reshape(-1, 32).astype(np.int32)
    np.testing.assert_array_equal(np.abs(groups).max(-1), 127)
    np.testing.assert_array_equal(groups.sum(-1), total.ravel())
    values = x.reshape(-1, 32)
    peak = np.abs(values).argmax(-1)[:, None]
    largest, its_code = (np.take_along_axis(array, peak, -1) for array in (values, groups))
    np.testing.assert_array_equal(its_code, 127 * np.sign(largest))


@ISA
@pytest.mark.parametrize("magnitude", [1e-45, 1e-42, 1e-39, 1e-38, 1e-37, 5e-37])
def test_values_too_small_for_a_reciprocal_count_as_zero(isa: str, magnitude: float) -> None:
    x = (normal(4) * magnitude).astype(np.float32)
    codes, scale, total = quantized(isa, x)
    expected, _, sums = reference(x)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(total, sums)
    assert (scale <= np.abs(x).max() / np.float32(127)).all()


@ISA
@GROUP
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(isa: str, group: int) -> None:
    x = normal(9)
    rows = [quantized(isa, x[[row]], group) for row in range(9)]
    alone = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    for threads in (1, 2):
        set_threads(threads)
        for part, expected in zip(quantized(isa, x, group), alone, strict=True):
            np.testing.assert_array_equal(part, expected)
