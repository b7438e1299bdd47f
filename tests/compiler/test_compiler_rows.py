"""Kernels that work row by row: norms, SwiGLU, log-probabilities, and the exponential they share."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from built_kernels import DIFFERENT_ISAS, Array, Kernels, set_threads
from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.gated import swiglu, swiglu_quantize
from kvscape.compiler.kernels.cpu.greedy import greedy
from kvscape.compiler.kernels.cpu.logprobs import logprobs
from kvscape.compiler.kernels.cpu.quantize import quantize
from kvscape.compiler.kernels.cpu.rms_norm import add_rms_norm, add_rms_norm_quantize, rms_norm
from kvscape.compiler.kernels.cpu.vector import exp, load

K, EPS = 72, 1e-5
VOCAB, UNEVEN = 320, 333  # the second one leaves a tail behind the vectors
ROUNDED = 96  # whole groups of 32, and two of 40 and a tail
GROUP = pytest.mark.parametrize("group", [32, 40])
ISA = pytest.mark.parametrize("isa", DIFFERENT_ISAS)
SIZES = pytest.mark.parametrize("size", [VOCAB, UNEVEN])
ROWS = pytest.mark.parametrize("n", [1, 3, 4, 9])


def exponentials() -> Any:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def kernel(p_x: T.handle, p_y: T.handle) -> None:
        n = T.int64()
        x = T.match_buffer(p_x, (n,), "float32")
        y = T.match_buffer(p_y, (n,), "float32")
        for c in T.serial(n // 8):
            y[T.ramp(c * 8, 1, 8)] = exp(load(x, c * 8, lanes=8), 8)

    return kernel


@cache
def kernels(isa: str) -> Kernels:
    functions = {
        "exp": exponentials(),
        "rms_norm": rms_norm(K, EPS),
        "add_rms_norm": add_rms_norm(K, EPS),
        "swiglu": swiglu(K),
        **{f"logprobs_{size}": logprobs(size) for size in (VOCAB, UNEVEN)},
        **{f"greedy_{size}": greedy(size) for size in (VOCAB, UNEVEN)},
        "add_rms_norm_96": add_rms_norm(ROUNDED, EPS),
        "swiglu_96": swiglu(ROUNDED),
    }
    for group in (32, 40):
        functions |= {
            f"quantize_by_{group}": quantize(ROUNDED, group),
            f"add_rms_norm_quantize_by_{group}": add_rms_norm_quantize(ROUNDED, EPS, group),
            f"swiglu_quantize_by_{group}": swiglu_quantize(ROUNDED, group),
        }
    return Kernels(functions, isa)


def run(isa: str, name: str, *inputs: Array, outputs: list[tuple[int, ...]]) -> tuple[Array, ...]:
    return kernels(isa)(name, inputs, [(shape, "float32") for shape in outputs])


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def normalized(x: Array, weight: Array) -> Array:
    wide = x.astype(np.float64)
    result: Array = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + EPS) * weight
    return result


@ISA
def test_exp_is_right_to_two_ulps_over_its_range(isa: str) -> None:
    x = np.linspace(-87, 88, 800_000, dtype=np.float32)
    (y,) = run(isa, "exp", x, outputs=[x.shape])
    np.testing.assert_allclose(y, np.exp(x.astype(np.float64)), rtol=2.4e-7)


@ISA
def test_exp_is_exact_at_zero_and_bounded_outside_its_range(isa: str) -> None:
    x = np.array([0, -0.0, -88, -1e4, -3e38, 89, 1e4, 3e38], np.float32)
    (y,) = run(isa, "exp", x, outputs=[x.shape])
    assert y[:2].tolist() == [1, 1]
    assert (y[2:5] < 2e-38).all() and (y[2:5] > 0).all()
    assert (y[5:] == y[5]).all() and np.isfinite(y).all()


@ISA
@ROWS
@pytest.mark.parametrize("magnitude", [1e-18, 1e-3, 1.0, 1e15])
def test_rms_norm(isa: str, n: int, magnitude: float) -> None:
    x, weight = normal(n, K) * np.float32(magnitude), normal(K, seed=1)
    x[0, : K // 2] *= 100
    (y,) = run(isa, "rms_norm", x, weight, outputs=[(n, K)])
    np.testing.assert_allclose(y, normalized(x, weight), rtol=2e-6)


@ISA
def test_rms_norm_of_zeros_is_zero(isa: str) -> None:
    (y,) = run(isa, "rms_norm", np.zeros((2, K), np.float32), normal(K), outputs=[(2, K)])
    assert not y.any()


@ISA
@ROWS
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e15])
def test_add_rms_norm_keeps_the_sum(isa: str, n: int, magnitude: float) -> None:
    delta, residual, weight = normal(n, K), normal(n, K, seed=1) * np.float32(magnitude), normal(K, seed=2)
    y, total = run(isa, "add_rms_norm", delta, residual, weight, outputs=[(n, K), (n, K)])
    np.testing.assert_array_equal(total, delta + residual)
    np.testing.assert_allclose(y, normalized(delta + residual, weight), rtol=2e-6)


@ISA
@ROWS
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 30.0, 3e4])
def test_swiglu(isa: str, n: int, magnitude: float) -> None:
    gate_up = normal(n, 2 * K)
    gate_up[:, :K] *= np.float32(magnitude)
    gate, up = np.split(gate_up.astype(np.float64), 2, axis=1)
    with np.errstate(over="ignore"):
        expected = gate / (1 + np.exp(-gate)) * up
    (y,) = run(isa, "swiglu", gate_up, outputs=[(n, K)])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-32)


def codes(n: int, group: int) -> list[tuple[tuple[int, ...], str]]:
    groups = -(-ROUNDED // group)
    return [((n, groups * group), "int8"), ((n, groups), "float32"), ((n, groups), "int32")]


@ISA
@ROWS
@GROUP
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e15])
def test_a_norm_that_is_rounded_has_the_codes_of_its_floats(isa: str, n: int, group: int, magnitude: float) -> None:
    floats: list[tuple[tuple[int, ...], str]] = [((n, ROUNDED), "float32")]
    inputs = normal(n, ROUNDED), normal(n, ROUNDED, seed=1) * np.float32(magnitude), normal(ROUNDED, seed=2)
    normed, total = kernels(isa)("add_rms_norm_96", inputs, floats * 2)
    expected = (*kernels(isa)(f"quantize_by_{group}", [normed], codes(n, group)), total)
    found = kernels(isa)(f"add_rms_norm_quantize_by_{group}", inputs, codes(n, group) + floats)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@ISA
@ROWS
@GROUP
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 3e4])
def test_a_swiglu_that_is_rounded_has_the_codes_of_its_floats(isa: str, n: int, group: int, magnitude: float) -> None:
    gate_up = normal(n, 2 * ROUNDED) * np.float32(magnitude)
    (gated,) = kernels(isa)("swiglu_96", [gate_up], [((n, ROUNDED), "float32")])
    expected = kernels(isa)(f"quantize_by_{group}", [gated], codes(n, group))
    found = kernels(isa)(f"swiglu_quantize_by_{group}", [gate_up], codes(n, group))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@ISA
@SIZES
@pytest.mark.parametrize("r", [0, 1, 3, 17])
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 40.0, 1e4])
def test_logprobs_are_the_log_softmax(isa: str, size: int, r: int, magnitude: float) -> None:
    logits = normal(r, size) * np.float32(magnitude)
    ids = np.random.default_rng(1).integers(0, size, r).astype(np.int32)
    ids[::2] = logits[::2].argmax(1)
    wide = logits.astype(np.float64)
    peak = wide.max(1, keepdims=True)
    expected = wide[np.arange(r), ids] - peak[:, 0] - np.log(np.exp(wide - peak).sum(1))
    (y,) = run(isa, f"logprobs_{size}", logits, ids, outputs=[(r,)])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@ISA
@SIZES
@pytest.mark.parametrize("peak_at", [0, 7, 8, VOCAB - 1, -1])
def test_every_logit_counts(isa: str, size: int, peak_at: int) -> None:
    logits = np.full((1, size), -1e30, np.float32)
    peak_at %= size
    logits[0, peak_at], logits[0, (peak_at + 11) % size] = 1e4, 1e4
    (y,) = run(isa, f"logprobs_{size}", logits, np.array([peak_at], np.int32), outputs=[(1,)])
    assert y[0] == pytest.approx(-np.log(2), rel=1e-6)


@ISA
@SIZES
@pytest.mark.parametrize("r", [0, 1, 3, 17])
def test_greedy_is_the_first_of_the_largest(isa: str, size: int, r: int) -> None:
    logits = np.random.default_rng(r).integers(-30, 30, (r, size)).astype(np.float32)  # many are equal
    assert (likeliest(isa, logits) == logits.argmax(1)).all()
    spread = normal(r, size)
    assert (likeliest(isa, spread) == spread.argmax(1)).all()


@ISA
@SIZES
def test_greedy_finds_the_peak_everywhere(isa: str, size: int) -> None:
    logits = np.full((size, size), -np.inf, np.float32)
    np.fill_diagonal(logits, -3e38)
    assert (likeliest(isa, logits) == np.arange(size)).all()
    logits[:, -2:] = -3e38  # of equals the first
    assert (likeliest(isa, logits) == np.minimum(np.arange(size), size - 2)).all()


def likeliest(isa: str, logits: Array) -> Array:
    r, size = logits.shape
    (y,) = kernels(isa)(f"greedy_{size}", [logits], [((r,), "int32")])
    return y


@ISA
def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(isa: str) -> None:
    x, residual, weight, ids = normal(9, K), normal(9, K, seed=1), normal(K, seed=2), np.arange(9, dtype=np.int32)
    logits, gate_up = normal(9, VOCAB), normal(9, 2 * K)

    def rows(part: slice) -> list[Array]:
        n = len(range(9)[part])
        return [
            *run(isa, "rms_norm", x[part], weight, outputs=[(n, K)]),
            *run(isa, "add_rms_norm", x[part], residual[part], weight, outputs=[(n, K), (n, K)]),
            *run(isa, "swiglu", gate_up[part], outputs=[(n, K)]),
            *run(isa, f"logprobs_{VOCAB}", logits[part], ids[part], outputs=[(n,)]),
        ]

    alone = [np.concatenate(parts) for parts in zip(*(rows(slice(i, i + 1)) for i in range(9)), strict=True)]
    for threads in (1, 2):
        set_threads(threads)
        for together, expected in zip(rows(slice(0, 9)), alone, strict=True):
            np.testing.assert_array_equal(together, expected)
