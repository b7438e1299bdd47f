"""Every architecture, compiled, in the real engine: what transformers says of it is in the golden file.

Prompts come in chunks while others decode, windows are crossed, RoPE scaling is active.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architecture_engine import WatchedDevice, asked, engine, run
from numpy_model import NumpyModel

from architectures import ARCHITECTURES, TOKENS, RandomSource
from built_architectures import BuildArchitecture
from built_tiny import build_source
from kvscape.engine import Request, SamplingParams

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "architectures.json").read_text(encoding="utf-8")
)
MODELS: dict[str, Any] = GOLDEN["architectures"]
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@every_architecture
def test_the_golden_file_is_worth_comparing(name: str) -> None:
    golden = MODELS[name]
    assert np.ptp(golden["logits"]) > 5 and len(set(golden["greedy"])) > 5
    assert min(golden["margins"]) > 1e-3


@every_architecture
def test_the_numpy_model_is_that_of_transformers(built_architecture: BuildArchitecture, name: str) -> None:
    logits = NumpyModel(built_architecture(name).artifact).logits(TOKENS)[GOLDEN["rows"]]
    np.testing.assert_allclose(logits, MODELS[name]["logits"], atol=1e-4 * np.ptp(logits))


@every_architecture
def test_a_score_in_chunks_beside_answers_is_that_of_transformers(
    built_architecture: BuildArchitecture, name: str
) -> None:
    target = engine(WatchedDevice(built_architecture(name)))
    score = Request("text", tuple(TOKENS), SamplingParams(max_tokens=0), prompt_logprobs=True)
    got = run(target, asked("first", TOKENS[:20], 60), asked("second", TOKENS[5:100], 60), score)
    np.testing.assert_allclose(got["text scores"], MODELS[name]["logprobs"], rtol=1e-3, atol=1e-4)


@every_architecture
def test_logits_behind_a_prompt_in_chunks_are_those_of_transformers(
    built_architecture: BuildArchitecture, name: str
) -> None:
    device = WatchedDevice(built_architecture(name))
    target = engine(device)
    for row in GOLDEN["rows"]:
        run(target, asked(str(row), TOKENS[: row + 1], 1, logprobs=0))
    logits = np.concatenate(device.fetched)
    np.testing.assert_allclose(logits, MODELS[name]["logits"], rtol=1e-3, atol=1e-4 * float(np.ptp(logits)))


@every_architecture
def test_a_greedy_answer_is_that_of_transformers(built_architecture: BuildArchitecture, name: str) -> None:
    device = WatchedDevice(built_architecture(name))
    golden = MODELS[name]["greedy"]
    prompt = TOKENS[: len(TOKENS) - len(golden)]
    assert run(engine(device), asked("answer", prompt, len(golden), logprobs=0))["answer"] == golden
    expected = NumpyModel(built_architecture(name).artifact).logits(prompt + golden)[len(prompt) - 1 : -1]
    logits = np.concatenate(device.fetched)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.ptp(expected))


def test_a_short_context_has_longropes_short_frequencies(built_architecture: BuildArchitecture) -> None:
    """The engine's context decides, or its window: keys are rotated once, whatever comes behind them."""
    short = np.array(GOLDEN["short"])
    text = TOKENS[: len(short) + 1]

    def scored(**knobs: int) -> Any:
        return engine(WatchedDevice(built_architecture("phi3")), **knobs).score(text)

    np.testing.assert_allclose(scored(context_window_size=128), short, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scored(sliding_window_size=128), short, rtol=1e-3, atol=1e-4)
    assert np.abs(scored(context_window_size=129) - short).max() > 0.05


def test_an_architecture_whose_weights_and_activations_are_rounded_in_groups_of_40(tmp_path: Path) -> None:
    """Of 3 bits, with GEGLU; nearly: an activation may be rounded to the neighbouring code."""
    built = build_source(RandomSource(ARCHITECTURES["gemma2"]), tmp_path, "q3f16_1", ("f32",))
    device, model = WatchedDevice(built), NumpyModel(built.artifact, int8_activations=True)
    answer = run(engine(device), asked("answer", TOKENS[:70], 20, logprobs=0))["answer"]
    expected = model.logits(TOKENS[:70] + answer)[69:-1]
    np.testing.assert_allclose(np.concatenate(device.fetched), expected, atol=1e-3 * np.ptp(expected))
