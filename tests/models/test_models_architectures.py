"""Every architecture, compiled, in the real engine: what transformers says of it is in the golden file.

Prompts come in chunks while others decode, windows are crossed, RoPE scaling is active.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy_model import NumpyModel

from architectures import ARCHITECTURES, TOKENS, RandomSource
from built_tiny import BuiltTiny, build_source
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "architectures.json").read_text(encoding="utf-8")
)
MODELS: dict[str, Any] = GOLDEN["architectures"]
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
Build = Callable[[str], BuiltTiny]
Logits = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("architectures")
    return cache(lambda name: build_source(RandomSource(ARCHITECTURES[name]), folder / name, "q0f32", ("f32",)))


class WatchedDevice(CpuDevice):
    """Keeps the logits that the engine asks for."""

    def __init__(self, built: BuiltTiny) -> None:
        super().__init__(built.library, built.packed_weights, threads=2)
        self.fetched: list[Logits] = []

    def fetch(self, logits: Any) -> Logits:
        values = super().fetch(logits)
        self.fetched.append(values.copy())
        return values


def engine(device: CpuDevice, **knobs: Any) -> Engine:
    fields = {"context_window_size": 512, "prefill_chunk_size": 37, "max_batch_size": 3, "kv_dtype": "f32", **knobs}
    return Engine(device, EngineConfig(**fields))


def run(target: Engine, *requests: Request) -> dict[str, Any]:
    """Tokens of each request, and what it scored."""
    for request in requests:
        target.add(request)
    tokens: dict[str, list[int]] = {request.request_id: [] for request in requests}
    scores: dict[str, Any] = {}
    while target.has_work:
        for output in target.step():
            tokens[output.request_id] += output.token_ids
            if output.prompt_logprobs is not None:
                scores[output.request_id] = output.prompt_logprobs
    return {**tokens, **{f"{name} scores": values for name, values in scores.items()}}


def asked(name: str, prompt: list[int], max_tokens: int, **more: Any) -> Request:
    return Request(name, tuple(prompt), SamplingParams(max_tokens=max_tokens, ignore_eos=True, **more))


@every_architecture
def test_the_golden_file_is_worth_comparing(name: str) -> None:
    golden = MODELS[name]
    assert np.ptp(golden["logits"]) > 5 and len(set(golden["greedy"])) > 5
    assert min(golden["margins"]) > 1e-3


@every_architecture
def test_the_numpy_model_is_that_of_transformers(built: Build, name: str) -> None:
    logits = NumpyModel(built(name).artifact).logits(TOKENS)[GOLDEN["rows"]]
    np.testing.assert_allclose(logits, MODELS[name]["logits"], atol=1e-4 * np.ptp(logits))


@every_architecture
def test_a_text_scored_in_chunks_beside_answers_is_that_of_transformers(built: Build, name: str) -> None:
    target = engine(WatchedDevice(built(name)))
    score = Request("text", tuple(TOKENS), SamplingParams(max_tokens=0), prompt_logprobs=True)
    got = run(target, asked("first", TOKENS[:20], 60), asked("second", TOKENS[5:100], 60), score)
    np.testing.assert_allclose(got["text scores"], MODELS[name]["logprobs"], rtol=1e-3, atol=1e-4)


@every_architecture
def test_a_greedy_answer_is_that_of_transformers(built: Build, name: str) -> None:
    device = WatchedDevice(built(name))
    golden = MODELS[name]["greedy"]
    prompt = TOKENS[: len(TOKENS) - len(golden)]
    assert run(engine(device), asked("answer", prompt, len(golden), logprobs=0))["answer"] == golden
    expected = NumpyModel(built(name).artifact).logits(prompt + golden)[len(prompt) - 1 : -1]
    logits = np.concatenate(device.fetched)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.ptp(expected))
