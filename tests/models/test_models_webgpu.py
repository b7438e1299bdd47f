"""The whole model on WebGPU, on this machine's first adapter: against numpy, and however the work is cut."""

import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy_llama import NumpyLlama

from built_tiny import BuildTiny, BuiltTiny, matrix_formats
from kvscape.analysis.adapters import adapters
from kvscape.analysis.memory import kv_cache_bytes
from kvscape.artifact import Artifact, shaders
from kvscape.bench.replay import Recorder, replay, timed_by
from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.webgpu_target import WGSL
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Output, Request, SamplingParams
from kvscape.engine.devices.calls import cheapest_call, pool_shapes
from kvscape.engine.devices.library import load_library
from kvscape.engine.devices.webgpu import WebgpuDevice
from kvscape.engine.devices.webgpu.gpu import WebgpuGpu
from kvscape.engine.draws import sampled
from kvscape.engine.logprobs import token_logprobs
from kvscape.errors import ArtifactError, CapacityError, ConfigError
from kvscape.hub.cache import locked
from kvscape.weights.pack import pack_weights
from mixed_requests import Told, assert_same, assert_worth_comparing, mixed_requests, told
from shader_kernels import needs_adapter

pytestmark = needs_adapter
KV_DTYPES = ("f16", "int8", "int4")
PROMPTS = [tuple(np.random.default_rng(n).integers(3, 300, n).tolist()) for n in (1, 40, 90)]
PARAMS = SamplingParams(max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("auto")


@cache
def device(artifact: Artifact) -> WebgpuDevice:
    library = artifact.folder / "lib" / "wgsl.tar"
    with locked(artifact.folder):
        if not library.exists():
            pack_weights(artifact, WGSL.layout)
            formats = matrix_formats(artifact)
            compile_library(LibrarySpec(artifact.manifest.model, formats, WGSL, "float32", {}, KV_DTYPES), library)
    return WebgpuDevice(library, artifact.packed_weights(WGSL.layout.name), adapters().found[0])


def engine(built: BuiltTiny, **knobs: Any) -> Engine:
    return Engine(device(built.artifact), EngineConfig(**{"context_window_size": 256, **knobs}))


def run(target: Engine) -> list[tuple[list[int], list[float]]]:
    """Tokens and prompt scores of all prompts, asked at once."""
    outputs: dict[str, list[Output]] = {}
    for index, prompt in enumerate(PROMPTS):
        target.add(Request(str(index), prompt, PARAMS, prompt_logprobs=True))
    while target.has_work:
        for output in target.step():
            outputs.setdefault(output.request_id, []).append(output)
    parts = [outputs[str(index)] for index in range(len(PROMPTS))]
    scores = [np.asarray(part[-1].prompt_logprobs if part[-1].prompt_logprobs is not None else ()) for part in parts]
    tokens = [[token for output in part for token in output.token_ids] for part in parts]
    return [(answer, score.tolist()) for answer, score in zip(tokens, scores, strict=True)]


@cache
def plain(built: BuiltTiny, kv_dtype: str) -> list[tuple[list[int], list[float]]]:
    """One request after the other, each prompt at once."""
    return run(engine(built, kv_dtype=kv_dtype, prefill_chunk_size=256))


def test_tokens_are_drawn_without_their_logits(built: BuiltTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.9, top_k=50, top_p=0.95, seed=5, ignore_eos=True)
    drawn = answer(engine(built), params)
    with monkeypatch.context() as patch:
        patch.setattr(WebgpuDevice, "sample", lambda self, logits, draws: sampled(self.fetch(logits), draws))
        assert answer(engine(built), params) == drawn != answer(engine(built), PARAMS)
    monkeypatch.setattr(WebgpuDevice, "fetch", None)
    assert answer(engine(built), params) == drawn


def test_mixed_batches_are_answered_without_their_logits(built: BuiltTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> dict[tuple[str, int], Told]:
        return told(engine(built, max_batch_size=16), mixed_requests(device(built.artifact).model.vocab_size))

    with monkeypatch.context() as patch:
        patch.setattr(WebgpuDevice, "sample", lambda self, logits, draws: sampled(self.fetch(logits), draws))
        patch.setattr(
            WebgpuDevice, "token_logprobs", lambda self, logits, asked: token_logprobs(self.fetch(logits), asked)
        )
        wanted = asked()
    assert_worth_comparing(wanted)
    monkeypatch.setattr(WebgpuDevice, "fetch", None)
    assert_same(asked(), wanted)
    monkeypatch.setattr("kvscape.engine.devices.webgpu.choices.MOST_EDITED", 4)
    assert_same(asked(), wanted)


def answer(target: Engine, params: SamplingParams) -> list[int]:
    target.add(Request("0", PROMPTS[1], params))
    steps = []
    while target.has_work:
        steps += target.step()
    return [token for output in steps for token in output.token_ids]


@pytest.mark.parametrize("tells_time", [True, False])
def test_the_kernels_of_a_step_are_timed_one_by_one(
    built: BuiltTiny, monkeypatch: pytest.MonkeyPatch, tells_time: bool
) -> None:
    monkeypatch.setattr(WebgpuGpu, "tells_time", tells_time)
    target, gpu = engine(built), device(built.artifact)
    target.add(Request("0", PROMPTS[1], PARAMS))
    target.step()
    recorder = Recorder(gpu.metadata.kernels)
    gpu.instrument(recorder)
    target.step()
    gpu.instrument(None)
    names = Counter(call.name for call in recorder.calls)
    assert names["paged_attention_f16"] == names["rope_append_f16"] == gpu.model.num_hidden_layers
    before, times = time.perf_counter(), replay(recorder.calls, cheapest_call(), timed_by(gpu))
    assert len(times) == names.total() > 10 and 0 < sum(times) < time.perf_counter() - before
    busy = {call.name for call, seconds in zip(recorder.calls, times, strict=True) if seconds > 0}
    assert any(name.startswith("linear_") for name in busy)
    layers, pages, _ = next(shape for shape in pool_shapes(target.pools) if len(shape) == 3 and shape[2])
    assert (layers, pages) == (gpu.model.num_hidden_layers, 16)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_answers_are_those_of_numpy(built: BuiltTiny, kv_dtype: str) -> None:
    llama = NumpyLlama(built.artifact, kv_dtype)
    for prompt, (answer, scores) in zip(PROMPTS, plain(built, kv_dtype), strict=True):
        tokens = [*prompt, *answer]
        logits = llama.logits(tokens)
        shifted = logits - logits.max(-1, keepdims=True)
        logprobs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        wanted = logprobs[range(len(prompt) - 1), prompt[1:]]
        np.testing.assert_allclose(scores, wanted, atol=2e-3)
        chosen = logprobs[range(len(prompt) - 1, len(tokens) - 1), answer]
        np.testing.assert_allclose(chosen, logprobs[len(prompt) - 1 : -1].max(-1), atol=2e-3)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize(("batch", "chunk", "page_size"), [(3, 5, 16), (1, 64, 8)])
def test_batch_chunk_and_page_size_change_nothing(
    built: BuiltTiny, kv_dtype: str, batch: int, chunk: int, page_size: int
) -> None:
    target = engine(built, max_batch_size=batch, prefill_chunk_size=chunk, page_size=page_size, kv_dtype=kv_dtype)
    assert run(target) == plain(built, kv_dtype)
    assert target.pools.nbytes == kv_cache_bytes(target.model, target.config)


@pytest.mark.parametrize("kv_dtype", ["f16", "int4"])
def test_choices_share_a_prompt_and_then_copy_its_last_page(built: BuiltTiny, kv_dtype: str) -> None:
    warm = SamplingParams(max_tokens=6, temperature=1.5, seed=3, n=2, ignore_eos=True)
    found: list[dict[int, list[int]]] = []
    for knobs in ({"max_batch_size": 2}, {"prefix_cache": False}):
        target, got = engine(built, kv_dtype=kv_dtype, **knobs), dict[int, list[int]]()
        target.add(Request("all", PROMPTS[1], warm))
        while target.has_work:
            for output in target.step():
                got.setdefault(output.index, []).extend(output.token_ids)
        found.append(got)
    assert found[0] == found[1] and found[0][0] != found[0][1]


def test_weights_in_parts_change_nothing(built: BuiltTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, library = plain(built, "f16"), tmp_path / "parts.tar"
    monkeypatch.setattr(shaders, "PART_BYTES", 1700)
    model, formats = built.artifact.manifest.model, matrix_formats(built.artifact)
    compile_library(LibrarySpec(model, formats, WGSL, "float32", {}, ("f16",)), library)
    cut = WebgpuDevice(library, built.artifact.packed_weights(WGSL.layout.name), adapters().found[0])
    assert run(Engine(cut, EngineConfig(256, prefill_chunk_size=256))) == wanted


def test_the_library_holds_shaders_and_runs_on_no_other_device(built: BuiltTiny, tmp_path: Path) -> None:
    device(built.artifact)
    load_library(built.artifact.folder / "lib" / "wgsl.tar")
    with pytest.raises(ArtifactError, match="it holds no shaders; compile the model with --device vulkan:0"):
        WebgpuDevice(built.library, built.packed_weights, adapters().found[0])


def test_what_cannot_be_had_is_one_clear_line(built: BuiltTiny) -> None:
    target = device(built.artifact)
    with pytest.raises(ConfigError, match="page_size = 4: the kernels take 8 keys at once"):
        target.allocate("f16", [4], 4, 1)
    with pytest.raises(CapacityError, match=r"a layer's KV cache takes .* max-storage-buffer-binding-size"):
        target.allocate("f16", [1 << 24], 16, 1)
    few = WebgpuGpu(adapters().found[0])
    few.limits = {**few.limits, "max-storage-buffers-per-shader-stage": 8}
    with pytest.raises(CapacityError, match=r"a kernel takes 9 buffers: .* max-storage-buffers-per-shader-stage 8"):
        few.layout((False,) * 9)
