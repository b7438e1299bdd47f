"""Scoring reads keys and values as they are stored: what a KV precision loses is seen, in one chunk as in many."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from numpy_llama import Array, NumpyLlama

from built_tiny import BuildTiny, BuiltTiny
from kvscape.config import KV_DTYPES, EngineConfig
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice

TOKENS = np.random.default_rng(6).integers(3, 320, 150).tolist()
of_precisions = pytest.mark.parametrize("kv_dtype", KV_DTYPES)


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("q0f32")


@cache
def score(built: BuiltTiny, kv_dtype: str, chunk: int = 256) -> Array:
    config = EngineConfig(context_window_size=256, prefill_chunk_size=chunk, kv_dtype=kv_dtype)
    return Engine(CpuDevice(built.library, built.packed_weights, threads=2), config).score(TOKENS)


@cache
def expected(built: BuiltTiny, kv_dtype: str) -> Array:
    logits = NumpyLlama(built.artifact, kv_dtype).logits(TOKENS)[:-1]
    chosen = logits[np.arange(len(logits)), TOKENS[1:]]
    result: Array = chosen - np.log(np.exp(logits).sum(-1))
    return result


@pytest.mark.parametrize(("one", "other"), list(combinations(KV_DTYPES, 2)))
def test_every_precision_is_active(built: BuiltTiny, one: str, other: str) -> None:
    """From the third token on: a first token that sees itself alone is not changed by the rounding of its key."""
    assert (score(built, one)[2:] != score(built, other)[2:]).mean() > 0.9


@of_precisions
def test_a_score_is_that_of_rounded_keys_and_values(built: BuiltTiny, kv_dtype: str) -> None:
    """Much nearer to the model with its own rounding than two precisions are to each other."""
    got = score(built, kv_dtype)
    error = np.abs(got - expected(built, kv_dtype)).mean()
    others = [np.abs(got - expected(built, other)).mean() for other in KV_DTYPES if other != kv_dtype]
    assert error < 0.3 * min(others)
    np.testing.assert_allclose(got, expected(built, kv_dtype), rtol=1e-3)


@of_precisions
def test_distributions_are_what_the_score_is_read_from(built: BuiltTiny, kv_dtype: str) -> None:
    config = EngineConfig(context_window_size=256, prefill_chunk_size=64, kv_dtype=kv_dtype)
    engine = Engine(CpuDevice(built.library, built.packed_weights, threads=2), config)
    logits = np.concatenate([rows.astype(np.float64) for rows in engine.distributions(TOKENS)])
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen = logprobs[np.arange(len(logits)), TOKENS[1:]]
    np.testing.assert_allclose(chosen, score(built, kv_dtype), rtol=1e-5, atol=1e-6)


@of_precisions
@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
def test_one_chunk_is_many_bit_for_bit(built: BuiltTiny, kv_dtype: str, chunk: int) -> None:
    np.testing.assert_array_equal(score(built, kv_dtype, chunk), score(built, kv_dtype))
