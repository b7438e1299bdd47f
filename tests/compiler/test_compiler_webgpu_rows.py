"""Norms, gates, rotary tables and choices of WebGPU against float64."""

from functools import cache

import numpy as np

from kvscape.compiler.kernels.webgpu import choices, rope, rows
from shader_kernels import Array, ShaderKernels, error, needs_adapter

pytestmark = needs_adapter
n, K, V, EPS = 3, 300, 700, 1e-5
LENGTH = 4096


@cache
def kernels() -> ShaderKernels:
    return ShaderKernels(
        {
            "rms_norm": rows.rms_norm_function(K, EPS),
            "add_rms_norm": rows.add_rms_norm_function(K, EPS),
            "swiglu": rows.gated_function("swiglu", K // 2),
            "geglu": rows.gated_function("geglu", K // 2),
            "head_norm": rows.head_norm_function(3, 1, 60, EPS),
            "bias": rows.each_function("bias", K, "x[i] + bias[column]", ("bias",)),
            "take_rows": rows.take_rows_function(K),
            "table": rope.rope_table_function("table", 64, 1.5),
            "frequencies": rope.rope_frequencies_function(64, LENGTH),
            "logprobs": choices.logprobs_function(V),
            "greedy": choices.greedy_function(V),
        }
    )


def some(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def norm(x: Array, weight: Array) -> Array:
    wide = x.astype(np.float64)
    result: Array = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + EPS) * weight
    return result


def test_norms() -> None:
    x, residual, weight = some(n, K), some(K, n).reshape(n, K).copy(), some(K)
    (y,) = kernels()("rms_norm", [x, weight], [((n, K), "float32")])
    assert error(y, norm(x, weight)) < 1e-6
    y, total = kernels()("add_rms_norm", [x, residual, weight], [((n, K), "float32")] * 2)
    assert error(y, norm(x + residual, weight)) < 1e-6
    np.testing.assert_array_equal(total, x + residual)


def test_queries_and_keys_are_normalized_and_values_kept() -> None:
    qkv, q_weight, k_weight = some(n, 5, 60), some(60), some(60) + 1
    (y,) = kernels()("head_norm", [qkv.reshape(n, K), q_weight, k_weight], [((n, K), "float32")])
    wanted = np.concatenate([norm(qkv[:, :3], q_weight), norm(qkv[:, 3:4], k_weight), qkv[:, 4:]], 1)
    assert error(y.reshape(n, 5, 60), wanted) < 1e-6


def test_gates_also_where_an_exponential_overflows() -> None:
    x = some(n, K)
    x[0, :4] = [-200, -90, 90, 200]
    gate, up = np.split(x.astype(np.float64), 2, axis=1)
    (y,) = kernels()("swiglu", [x], [((n, K // 2), "float32")])
    assert error(y, gate / (1 + np.exp(-gate)) * up) < 1e-6
    (y,) = kernels()("geglu", [x], [((n, K // 2), "float32")])
    bent = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    assert error(y, bent * up) < 1e-6


def test_biases_and_chosen_rows() -> None:
    x, bias = some(n, K), some(K)
    (y,) = kernels()("bias", [x, bias], [((n, K), "float32")])
    np.testing.assert_array_equal(y, x + bias)
    (y,) = kernels()("take_rows", [x, np.array([2, 0], np.int32)], [((2, K), "float32")])
    np.testing.assert_array_equal(y, x[[2, 0]])


def test_angles_are_exact_far_past_the_training_context() -> None:
    positions = np.array([0, 7, 4095, 1_000_000], np.int32)
    frequency = (5e5 ** -(np.arange(32) / 32)).astype(np.float32)
    frequency[1] = 13478287 / 2**24  # whose product with 2^64 / (2 pi) has a carry between its words
    (y,) = kernels()("table", [positions, frequency], [((4, 64), "float32")])
    angle = positions[:, None].astype(np.float64) * frequency
    np.testing.assert_allclose(y, 1.5 * np.concatenate([np.cos(angle), np.sin(angle)], 1), atol=1e-6)


def test_frequencies_follow_what_is_seen() -> None:
    few, many = some(32), some(33)[:32].copy()
    for seen, wanted in ((LENGTH, few), (LENGTH + 1, many)):
        (y,) = kernels()("frequencies", [few, many, np.array([seen], np.int32)], [((32,), "float32")])
        np.testing.assert_array_equal(y, wanted)


def test_the_likeliest_token_is_the_first_of_equals() -> None:
    logits = some(4, V)
    logits[1, [600, 77, 333]] = 9
    logits[2, -1] = 9
    y, _ = kernels()("greedy", [logits], [((4,), "int32"), ((4 * 64 * 2,), "float32")])
    assert y.tolist() == logits.argmax(1).tolist() and y[1] == 77


def test_log_probabilities() -> None:
    logits, ids = some(4, V) * 5, np.array([0, 17, 699, 300], np.int32)
    (y,) = kernels()("logprobs", [logits, ids], [((4,), "float32")])
    wide = logits.astype(np.float64) - logits.max(1, keepdims=True)
    np.testing.assert_allclose(y, (wide - np.log(np.exp(wide).sum(1, keepdims=True)))[range(4), ids], rtol=1e-5)
