"""The default model without rounding says what Hugging Face transformers says: ``tests/golden/regenerate.py``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvscape import LLM, SamplingParams

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "smollm2.json").read_text(encoding="utf-8"))
NEAR_TIE = 1e-3
"""Logits so close that another order of summation may choose the other token."""


@pytest.fixture(scope="module")
def answers(default_q0f32: LLM) -> dict[str, list[int]]:
    """All prompts at once, as one batch."""
    prompts = [answer["prompt_token_ids"] for answer in GOLDEN["prompts"].values()]
    completions = default_q0f32.complete(prompts, SamplingParams(max_tokens=64, ignore_eos=True))
    return {name: list(c.token_ids) for name, c in zip(GOLDEN["prompts"], completions, strict=True)}


def test_the_golden_file_is_of_this_model(default_q0f32: LLM) -> None:
    assert default_q0f32.artifact.manifest.source_sha256 == GOLDEN["model_sha256"]
    assert {len(answer["token_ids"]) for answer in GOLDEN["prompts"].values()} == {64}


@pytest.mark.parametrize("name", GOLDEN["prompts"])
def test_greedy_tokens_equal_those_of_transformers(
    default_q0f32: LLM, answers: dict[str, list[int]], name: str
) -> None:
    golden = GOLDEN["prompts"][name]
    for step, token in differences(default_q0f32, golden, answers[name]):
        first, second = golden["logits"][step], golden["second_logits"][step]
        print(f"{name}, token {step}: {golden['token_ids'][step]} has {first}, {token} has {second} at most")
        print(default_q0f32.complete([prefix(golden, step)], SamplingParams(max_tokens=1, logprobs=2))[0].logprobs)
        assert token == golden["second_token_ids"][step] and first - second < NEAR_TIE


@pytest.mark.parametrize("name", [name for name, answer in GOLDEN["prompts"].items() if answer["text"]])
def test_prompts_have_the_golden_tokens(default_q0f32: LLM, name: str) -> None:
    golden = GOLDEN["prompts"][name]
    assert default_q0f32.tokenizer.encode(golden["text"], add_bos=True) == golden["prompt_token_ids"]


def test_a_conversation_has_the_golden_tokens(default_q0f32: LLM) -> None:
    ids = default_q0f32.chat_token_ids([{"role": "user", "content": GOLDEN["question"]}])
    assert ids == GOLDEN["prompts"]["chat"]["prompt_token_ids"]


def differences(llm: LLM, golden: dict[str, Any], answer: list[int]) -> Iterator[tuple[int, int]]:
    """Steps where ``answer`` has another token than the golden file, and that token.

    Behind each, the golden answer is taken up and continued, so that every step is compared.
    """
    for step, token in enumerate(golden["token_ids"]):
        if answer[step] != token:
            yield step, answer[step]
            rest = SamplingParams(max_tokens=64 - step, ignore_eos=True)
            answer = [*golden["token_ids"][:step], token]
            if step < 63:
                answer += llm.complete([prefix(golden, step + 1)], rest)[0].token_ids


def prefix(golden: dict[str, Any], step: int) -> list[int]:
    """Prompt and golden answer before ``step``."""
    return [*golden["prompt_token_ids"], *golden["token_ids"][:step]]
