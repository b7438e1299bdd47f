"""Models whose layers have windows of their own, in the real engine: a KV pool for each group of layers."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from architecture_engine import asked, engine, run
from numpy_model import NumpyModel, WindowedModel

from architectures import ARCHITECTURES, TOKENS
from built_architectures import BuildArchitecture
from built_tiny import BuiltTiny
from kvscape.analysis.memory import kv_cache_bytes
from kvscape.config import EngineConfig, Window
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice

PROMPTS = [TOKENS[:90], TOKENS[:64], TOKENS[200:203], [*TOKENS[:48], *TOKENS[250:280]], TOKENS[120:170], TOKENS[:90]]
ANSWER = 30
GROUPED = ("qwen2", "gemma2", "gemma3_text")  # layers with a window and layers without
kv_dtypes = pytest.mark.parametrize("kv_dtype", ["f32", "int4"])


@pytest.fixture(scope="module")
def gemma3(built_architecture: BuildArchitecture) -> BuiltTiny:
    return built_architecture("gemma3_text")


def device(built: BuiltTiny) -> CpuDevice:
    return CpuDevice(built.library, built.packed_weights, threads=2)


def answers(target: Engine, turn: int = 0) -> list[list[int]]:
    requests = [asked(f"{turn} {index}", prompt, ANSWER) for index, prompt in enumerate(PROMPTS)]
    tokens = run(target, *requests)
    return [tokens[request.request_id] for request in requests]


@cache
def expected(built: BuiltTiny, kv_dtype: str) -> list[list[int]]:
    """One prompt after the other, token by token, with nothing shared."""
    knobs = {"max_batch_size": 1, "prefill_chunk_size": 1, "prefix_cache": False}
    return answers(engine(device(built), kv_dtype=kv_dtype, **knobs))


def test_the_answers_are_worth_comparing(gemma3: BuiltTiny) -> None:
    assert len({tuple(answer) for answer in expected(gemma3, "f32")}) == len(PROMPTS) - 1
    assert expected(gemma3, "f32") != expected(gemma3, "int4")


@kv_dtypes
@pytest.mark.parametrize("chunk", [7, 64, 512])
@pytest.mark.parametrize("page_size", [8, 32])
def test_no_token_depends_on_batch_chunk_page_or_cached_prefix(
    gemma3: BuiltTiny, kv_dtype: str, chunk: int, page_size: int
) -> None:
    knobs = {"max_batch_size": 4, "prefill_chunk_size": chunk, "page_size": page_size}
    target = engine(device(gemma3), kv_dtype=kv_dtype, **knobs)
    for turn in range(2):
        assert answers(target, turn) == expected(gemma3, kv_dtype)
    assert target.metrics.prefix_cache_hits > 0


@kv_dtypes
def test_no_token_depends_on_preemption(gemma3: BuiltTiny, kv_dtype: str) -> None:
    target = engine(device(gemma3), kv_dtype=kv_dtype, max_batch_size=4, max_total_sequence_length=176)
    assert answers(target) == expected(gemma3, kv_dtype)
    assert target.metrics.preemptions > 0


@pytest.mark.parametrize("name", GROUPED)
def test_layers_with_a_window_hold_its_pages_only(built_architecture: BuildArchitecture, name: str) -> None:
    """The pools of both groups are as small as they may be, and the plan counts their bytes."""
    target = engine(device(built_architecture(name)), max_batch_size=1, prefill_chunk_size=32, prefix_cache=False)
    windows = [target.config.window(group) for group in target.model.layer_groups]
    pools = dict(zip(windows, target.cache.allocators, strict=True))
    local = Window(0, target.model.sliding_window or 0)
    assert pools[Window()].num_pages == 512 // 16
    assert pools[local].num_pages == local.most_pages(512, 32, 16) < 8
    assert kv_cache_bytes(target.model, target.config) == target.pools.nbytes
    least = pools[Window()].num_pages
    target.add(asked("long", TOKENS, 100))
    while target.has_work:
        target.step()
        least = min(least, pools[Window()].num_free)
    assert least == (512 - len(TOKENS) - 100) // 16


@pytest.mark.parametrize(("size", "sinks"), [(40, 4), (20, 3), (300, 0)])
@pytest.mark.parametrize("name", GROUPED)
def test_an_engines_window_narrows_that_of_each_group(
    built_architecture: BuildArchitecture, name: str, size: int, sinks: int
) -> None:
    knobs: dict[str, Any] = {"sliding_window_size": size, "attention_sink_size": sinks, "context_window_size": 600}
    text = TOKENS[:160]
    target = engine(device(built_architecture(name)), **knobs)
    logits = WindowedModel(built_architecture(name).artifact, EngineConfig(**knobs)).logits(text)[:-1]
    wanted = logits[np.arange(len(logits)), text[1:]] - np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(target.score(text), wanted, rtol=1e-3, atol=1e-4)


def test_int4_keys_and_values_lose_little_where_groups_have_windows(gemma3: BuiltTiny) -> None:
    exact, rounded = (engine(device(gemma3), kv_dtype=kv_dtype).score(TOKENS) for kv_dtype in ("f32", "int4"))
    assert 0 < np.abs(rounded - exact).mean() < 0.35


@pytest.mark.parametrize("name", ["qwen2", "gemma2"])
def test_8_bit_activations_round_as_their_reference(built_architecture: BuildArchitecture, name: str) -> None:
    built = built_architecture(name, "q8f16_1")
    got = engine(device(built)).score(TOKENS)
    near, exact = (
        NumpyModel(built.artifact, int8_activations=rounded).logits(TOKENS)[:-1] for rounded in (True, False)
    )
    rounded, plain = (
        logits[np.arange(len(logits)), TOKENS[1:]] - np.log(np.exp(logits).sum(-1)) for logits in (near, exact)
    )
    assert np.abs(got - rounded).mean() < 0.3 * np.abs(got - plain).mean()
    fused = {"qwen2": "swiglu_quantize_96_by_32", "gemma2": "geglu_quantize_96_by_32"}[name]
    assert fused in device(built).metadata.kernels


def test_a_text_may_be_longer_than_the_context_where_every_layer_has_a_window(
    built_architecture: BuildArchitecture,
) -> None:
    """Mistral's positions go on: what a query sees is never farther away than its window."""
    text = TOKENS * 2
    assert len(text) > ARCHITECTURES["mistral"].max_position_embeddings
    built = built_architecture("mistral")
    scores = engine(device(built), context_window_size=600).score(text)
    logits = NumpyModel(built.artifact).logits(text)[:-1]
    wanted = logits[np.arange(len(logits)), text[1:]] - np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-4)
