"""A text of four times the training context through a small window, against numpy with the same mask and positions."""

from functools import cache

import numpy as np
import pytest
from numpy_llama import Array, NumpyLlama
from numpy_window import WindowedLlama

from built_tiny import BuildTiny, BuiltTiny
from kvscape.config import EngineConfig, Window
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice

TOKENS = np.random.default_rng(4).integers(3, 320, 1000).tolist()
WINDOWS = [Window(0, 20), Window(4, 20), Window(4, 60)]
of_windows = pytest.mark.parametrize("window", WINDOWS, ids=str)


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("q0f32")


def score(built: BuiltTiny, window: Window, chunk: int) -> Array:
    config = EngineConfig(
        context_window_size=len(TOKENS),
        prefill_chunk_size=chunk,
        sliding_window_size=window.size,
        attention_sink_size=window.sinks,
        kv_dtype="f32",
    )
    return Engine(CpuDevice(built.library, built.packed_weights, threads=2), config).score(TOKENS)


@cache
def expected(built: BuiltTiny, window: Window) -> Array:
    return logprobs(WindowedLlama(built.artifact, window).logits(TOKENS))


def logprobs(logits: Array) -> Array:
    """Log-probability of each token after the first."""
    logits = logits[:-1]
    chosen = logits[np.arange(len(logits)), TOKENS[1:]]
    result: Array = chosen - np.log(np.exp(logits).sum(-1))
    return result


@of_windows
@pytest.mark.parametrize("chunk", [7, 100])
def test_a_long_text_is_scored_as_the_definition_says(built: BuiltTiny, window: Window, chunk: int) -> None:
    assert len(TOKENS) > 3 * built.artifact.manifest.model.max_position_embeddings
    np.testing.assert_allclose(score(built, window, chunk), expected(built, window), rtol=1e-3)


def test_the_windows_are_worth_telling_apart(built: BuiltTiny) -> None:
    """Each differs from the others, and from seeing the whole text, by far more than the tolerance."""
    seen = [expected(built, window) for window in WINDOWS] + [logprobs(NumpyLlama(built.artifact).logits(TOKENS))]
    for index, one in enumerate(seen):
        for other in seen[:index]:
            assert np.abs(one[100:] / other[100:] - 1).max() > 0.05


def test_without_a_window_seeing_all_is_the_numpy_model(built: BuiltTiny) -> None:
    whole = WindowedLlama(built.artifact, Window()).logits(TOKENS[:200])
    np.testing.assert_allclose(whole, NumpyLlama(built.artifact).logits(TOKENS[:200]), atol=1e-5)
