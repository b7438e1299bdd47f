"""Kernels that only some architectures have: GEGLU, bias, factor, soft cap, norms of heads, choice of angles."""

from functools import cache

import numpy as np
import pytest
from built_kernels import DIFFERENT_ISAS, Array, Kernels

from kvscape.compiler.kernels.cpu.elementwise import add_bias, scale, soft_cap
from kvscape.compiler.kernels.cpu.gated import geglu, geglu_quantize
from kvscape.compiler.kernels.cpu.head_norm import head_norm
from kvscape.compiler.kernels.cpu.quantize import quantize
from kvscape.compiler.kernels.cpu.rope_append import rope_frequencies, rope_table

K, CAP, FACTOR, EPS = 96, 30.0, 7.25, 1e-6
Q_HEADS, HEADS, DIM = 3, 2, 24
ISA = pytest.mark.parametrize("isa", DIFFERENT_ISAS)
ROWS = pytest.mark.parametrize("n", [1, 3, 4, 9])


@cache
def kernels(isa: str) -> Kernels:
    functions = {
        "geglu": geglu(K),
        **{f"geglu_quantize_by_{group}": geglu_quantize(K, group) for group in (32, 40)},
        **{f"quantize_by_{group}": quantize(K, group) for group in (32, 40)},
        "add_bias": add_bias(K),
        "scale": scale(K, FACTOR),
        "soft_cap": soft_cap(K, CAP),
        "head_norm": head_norm(Q_HEADS, HEADS, DIM, EPS),
        "rope_frequencies": rope_frequencies(DIM, 4096),
        "rope_table": rope_table(DIM, 1.19),
    }
    return Kernels(functions, isa)


def run(isa: str, name: str, *inputs: Array, shape: tuple[int, ...]) -> Array:
    (y,) = kernels(isa)(name, inputs, [(shape, "float32")])
    return y


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@ISA
@ROWS
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 30.0, 3e4])
def test_geglu(isa: str, n: int, magnitude: float) -> None:
    gate_up = normal(n, 2 * K)
    gate_up[:, :K] *= np.float32(magnitude)
    gate, up = np.split(gate_up.astype(np.float64), 2, axis=1)
    expected = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up
    y = run(isa, "geglu", gate_up, shape=(n, K))
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6 * min(magnitude, 1.0))


@ISA
@ROWS
@pytest.mark.parametrize("group", [32, 40])
def test_a_geglu_that_is_rounded_has_the_codes_of_its_floats(isa: str, n: int, group: int) -> None:
    gate_up = normal(n, 2 * K)
    groups = -(-K // group)
    codes = [((n, groups * group), "int8"), ((n, groups), "float32"), ((n, groups), "int32")]
    expected = kernels(isa)(f"quantize_by_{group}", [run(isa, "geglu", gate_up, shape=(n, K))], codes)
    found = kernels(isa)(f"geglu_quantize_by_{group}", [gate_up], codes)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@ISA
@ROWS
def test_a_bias_is_added_to_every_row_and_a_factor_multiplies_it(isa: str, n: int) -> None:
    x, bias = normal(n, K), normal(K, seed=1)
    np.testing.assert_array_equal(run(isa, "add_bias", x, bias, shape=(n, K)), x + bias)
    np.testing.assert_array_equal(run(isa, "scale", x, shape=(n, K)), x * np.float32(FACTOR))


@ISA
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 40.0, 1e6])
def test_a_soft_cap_bends_large_numbers_only(isa: str, magnitude: float) -> None:
    x = normal(5, K) * np.float32(magnitude)
    y = run(isa, "soft_cap", x, shape=(5, K))
    np.testing.assert_allclose(y, CAP * np.tanh(x.astype(np.float64) / CAP), rtol=1e-6, atol=CAP * 3e-7)
    assert np.abs(y).max() <= CAP


@ISA
@ROWS
def test_heads_of_queries_and_keys_are_normalized_by_themselves(isa: str, n: int) -> None:
    qkv = normal(n, (Q_HEADS + 2 * HEADS) * DIM) * np.float32(5)
    q_weight, k_weight = normal(DIM, seed=1), normal(DIM, seed=2)
    heads = qkv.astype(np.float64).reshape(n, -1, DIM)
    normed = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + EPS)
    expected = np.concatenate(
        [normed[:, :Q_HEADS] * q_weight, normed[:, Q_HEADS:-HEADS] * k_weight, heads[:, -HEADS:]], axis=1
    )
    y = run(isa, "head_norm", qkv, q_weight, k_weight, shape=qkv.shape)
    np.testing.assert_allclose(y, expected.reshape(qkv.shape), rtol=2e-6)


@ISA
@pytest.mark.parametrize(("seen", "takes"), [(0, 0), (4096, 0), (4097, 1), (131072, 1)])
def test_long_frequencies_are_taken_beyond_the_length(isa: str, seen: int, takes: int) -> None:
    both = [normal(DIM // 2), normal(DIM // 2, seed=1)]
    y = run(isa, "rope_frequencies", *both, np.array([seen], np.int32), shape=(DIM // 2,))
    np.testing.assert_array_equal(y, both[takes])


@ISA
def test_a_factor_multiplies_cosines_and_sines(isa: str) -> None:
    positions, frequencies = np.array([0, 3, 5000], np.int32), np.abs(normal(DIM // 2))
    angles = positions[:, None] * frequencies.astype(np.float64)
    expected = 1.19 * np.concatenate([np.cos(angles), np.sin(angles)], 1)
    np.testing.assert_allclose(run(isa, "rope_table", positions, frequencies, shape=(3, DIM)), expected, atol=2e-6)
