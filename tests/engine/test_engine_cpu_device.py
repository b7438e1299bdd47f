"""The engine on the real CPU device: how the work is cut changes no token and no score; and the device's own errors."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from built_tiny import BuildTiny, BuiltTiny
from kvscape.analysis.memory import kv_cache_bytes, page_bytes, tail_bytes
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import KV_DTYPES, EngineConfig, Window
from kvscape.engine import Engine, Output, Request, SamplingParams
from kvscape.engine.devices import StepInput
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.library import function_of, load_library
from kvscape.engine.devices.runtime import tvm
from kvscape.errors import ArtifactError, ConfigError

LENGTHS = [1, 17, 5, 40, 33, 16]
PROMPTS = [tuple(np.random.default_rng(seed).integers(3, 300, length).tolist()) for seed, length in enumerate(LENGTHS)]
PARAMS = SamplingParams(max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("auto")


@cache
def device(built: BuiltTiny, threads: int = 2) -> CpuDevice:
    return CpuDevice(built.library, built.packed_weights, threads)


def engine(built: BuiltTiny, threads: int = 2, **knobs: Any) -> Engine:
    return Engine(device(built, threads), EngineConfig(**{"context_window_size": 256, **knobs}))


def run(target: Engine) -> tuple[list[list[int]], list[list[float]]]:
    """Tokens and prompt scores of all prompts, asked at once."""
    outputs: dict[str, list[Output]] = {}
    for index, prompt in enumerate(PROMPTS):
        target.add(Request(str(index), prompt, PARAMS, prompt_logprobs=True))
    while target.has_work:
        for output in target.step():
            outputs.setdefault(output.request_id, []).append(output)
    parts = [outputs[str(index)] for index in range(len(PROMPTS))]
    scores = [part[-1].prompt_logprobs for part in parts]
    tokens = [[token for output in part for token in output.token_ids] for part in parts]
    return tokens, [[] if score is None else score.tolist() for score in scores]


@cache
def plain(built: BuiltTiny, kv_dtype: str) -> tuple[list[list[int]], list[list[float]]]:
    """One request after the other, each prompt at once."""
    return run(engine(built, kv_dtype=kv_dtype, prefill_chunk_size=256))


def test_the_plain_answers_are_worth_comparing(built: BuiltTiny) -> None:
    tokens, scores = plain(built, "f16")
    assert len({tuple(answer) for answer in tokens}) == len(PROMPTS)
    assert [len(answer) for answer in tokens] == [24] * len(PROMPTS)
    assert [len(score) for score in scores] == [length - 1 for length in LENGTHS]
    assert len({token for answer in tokens for token in answer}) > 20
    assert plain(built, "int8")[1] != scores


@pytest.mark.parametrize("kv_dtype", ["f16", "int8", "int4"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 16, 256])
@pytest.mark.parametrize("page_size", [8, 16, 32])
def test_batch_chunk_and_page_size_change_nothing(
    built: BuiltTiny, kv_dtype: str, batch: int, chunk: int, page_size: int
) -> None:
    target = engine(built, max_batch_size=batch, prefill_chunk_size=chunk, page_size=page_size, kv_dtype=kv_dtype)
    assert run(target) == plain(built, kv_dtype)


@pytest.mark.parametrize("kv_dtype", ["f16", "int8", "int4"])
@pytest.mark.parametrize("chunk", [3, 256])
def test_preemption_changes_nothing(built: BuiltTiny, kv_dtype: str, chunk: int) -> None:
    target = engine(built, max_batch_size=4, prefill_chunk_size=chunk, max_total_sequence_length=80, kv_dtype=kv_dtype)
    assert run(target) == plain(built, kv_dtype)
    assert target.metrics.preemptions > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(built: BuiltTiny, threads: int) -> None:
    assert run(engine(built, threads, max_batch_size=3, prefill_chunk_size=64)) == plain(built, "f16")


def test_a_used_cache_changes_nothing(built: BuiltTiny) -> None:
    target = engine(built, max_batch_size=2)
    assert run(target) == run(target) == plain(built, "f16")


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("chunk", [5, 256])
@pytest.mark.parametrize("page_size", [8, 16, 32])
def test_the_prefix_cache_changes_nothing(built: BuiltTiny, kv_dtype: str, chunk: int, page_size: int) -> None:
    knobs: dict[str, Any] = {"kv_dtype": kv_dtype, "page_size": page_size}
    prompts = [PROMPTS[3], (*PROMPTS[3][:35], *PROMPTS[4]), PROMPTS[3]]
    several = [Request(str(index), prompt, PARAMS) for index, prompt in enumerate(prompts)]
    found = engine(built, prefill_chunk_size=chunk, **knobs)
    assert answers(found, several) == answers(engine(built, prefix_cache=False, **knobs), several)
    assert found.metrics.prefix_cache_hits > 0


@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
@pytest.mark.parametrize(("batch", "page_size", "pool"), [(4, 16, None), (3, 32, None), (4, 16, 96)])
def test_choices_are_what_their_seeds_give_alone(
    built: BuiltTiny, kv_dtype: str, batch: int, page_size: int, pool: int | None
) -> None:
    warm = replace(PARAMS, temperature=1.5, seed=3)
    knobs: dict[str, Any] = {"kv_dtype": kv_dtype, "page_size": page_size}
    target = engine(built, max_batch_size=batch, max_total_sequence_length=pool, **knobs)
    alone = engine(built, prefix_cache=False, **knobs)
    for prompt in (PROMPTS[1], PROMPTS[3], PROMPTS[5]):
        several = [Request(str(index), prompt, replace(warm, seed=3 + index)) for index in range(4)]
        target.add(Request("all", prompt, replace(warm, n=4)))
        got: dict[int, list[int]] = {}
        while target.has_work:
            for output in target.step():
                got.setdefault(output.index, []).extend(output.token_ids)
        assert [got[index] for index in range(4)] == answers(alone, several)


def test_pages_are_copied_in_all_layers(built: BuiltTiny) -> None:
    target = device(built)
    pools = target.allocate("f16", [5], 16, 2)
    array = np.from_dlpack(pools.tensors[0])
    array[...] = np.arange(array.size).reshape(array.shape) % 999
    before = array.copy()
    target.copy(pools, [np.array([[0, 3], [2, 4]], np.int32)], np.zeros((0, 2), np.int32))
    np.testing.assert_array_equal(array, before[:, [0, 1, 2, 0, 2]])


def answers(target: Engine, requests: list[Request]) -> list[list[int]]:
    """Tokens of each request, one request after the other."""
    result: list[list[int]] = []
    for request in requests:
        target.add(request)
        result.append([])
        while target.has_work:
            result[-1] += [token for output in target.step() for token in output.token_ids]
    return result


def test_scores_and_greedy_tokens_agree_with_the_logits(built: BuiltTiny) -> None:
    target = device(built)
    held = target.forward(_one_token(), target.allocate("f32", [1], 16, 1))
    fetched = target.fetch(held)
    assert held.shape == fetched.shape == (1, 320) and fetched.dtype == np.float32
    assert target.greedy(held) == [int(fetched.argmax())]
    wide = fetched[0].astype(np.float64)
    expected = wide - np.log(np.exp(wide).sum())
    got = [float(target.logprobs(held, [token])[0]) for token in (0, 5, 319)]
    np.testing.assert_allclose(got, expected[[0, 5, 319]], atol=1e-6)


def _one_token() -> StepInput:
    return StepInput(
        token_ids=[5],
        positions=[0],
        query_starts=[0, 1],
        kv_lengths=[1],
        slots=[[0]],
        page_tables=[[[0]]],
        windows=[Window()],
        logit_rows=[0],
        tails=[0],
    )


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("page_size", [16, 48])
def test_the_pools_hold_exactly_the_predicted_bytes(built: BuiltTiny, kv_dtype: str, page_size: int) -> None:
    target = engine(built, kv_dtype=kv_dtype, page_size=page_size)
    assert target.pools.nbytes == kv_cache_bytes(target.model, target.config)
    pools = device(built).allocate(kv_dtype, [3], page_size, 1)
    assert pools.nbytes == 2 * (3 * page_bytes(target.model, kv_dtype, page_size) + tail_bytes(target.model, kv_dtype))


@pytest.mark.parametrize("page_size", [1, 12, 17])
def test_pages_that_split_a_block_of_keys_are_an_error(built: BuiltTiny, page_size: int) -> None:
    with pytest.raises(ConfigError, match=f"page_size = {page_size}: .* 8 keys at once; use a multiple of 8"):
        engine(built, page_size=page_size)


def test_the_device_says_what_it_is(built: BuiltTiny) -> None:
    target = device(built)
    assert target.model == built.artifact.manifest.model
    assert target.metadata.overrides == {"page_size": 32}
    assert target.metadata.layout == built.target.layout.name
    assert target.metadata.kv_dtypes == KV_DTYPES
    assert any("int8_matmul" in kernel for kernel in target.metadata.kernels)
    assert all(f"paged_attention_{kv}" in target.metadata.kernels for kv in KV_DTYPES)
    packed = map_tensors(built.packed_weights)
    assert target.weights_bytes == sum(array.nbytes for array in packed.values())


def test_weights_of_another_model_are_an_error(built: BuiltTiny, built_tiny: BuildTiny) -> None:
    with pytest.raises(ArtifactError, match=r"the weights lack model\.embed_tokens.*packed for another library"):
        CpuDevice(built.library, built_tiny("q0f32").packed_weights, 2)


def test_a_missing_library_is_an_error(built: BuiltTiny, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no library at"):
        CpuDevice(tmp_path / "none.tar", built.packed_weights, 2)


def test_a_library_has_the_functions_that_its_device_asks_for(built: BuiltTiny) -> None:
    """The CPU draws tokens in Python."""
    vm = tvm.runtime.vm.VirtualMachine(load_library(built.library), [tvm.runtime.device("cpu", 0)])
    assert function_of(vm, "greedy") is not None
    assert function_of(vm, "sample") is None
