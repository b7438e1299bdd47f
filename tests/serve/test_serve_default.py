"""The default model, served as a user gets it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from kvscape import LLM, SamplingParams
from kvscape.engine.async_engine import AsyncEngine
from kvscape.serve import ServeSettings
from serving import MODEL, borrowing, serving

TEXT = "The capital of France is"
QUESTION: list[Any] = [{"role": "user", "content": "Name the capital of France."}]


@pytest.fixture(scope="module")
def client(default_auto: LLM) -> Iterator[openai.OpenAI]:
    engine = AsyncEngine(default_auto.engine)
    with (
        serving(borrowing(engine, default_auto, ServeSettings())) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made
    asyncio.run(engine.stop())


@pytest.fixture(scope="module", autouse=True)
def expected(default_auto: LLM) -> dict[str, Any]:
    """What it says without a server, asked before there is one."""
    few = SamplingParams(max_tokens=12)
    said = {"text": default_auto.generate(TEXT, few).text, "chat": default_auto.chat(QUESTION, few).text}
    return {**said, "scores": default_auto.score(TEXT)}


def test_it_says_what_it_says_without_a_server(expected: dict[str, Any], client: openai.OpenAI) -> None:
    text = client.completions.create(model=MODEL, prompt=TEXT, max_tokens=12, temperature=0).choices[0].text
    assert text == expected["text"] and "Paris" in text
    pieces = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected["chat"]


def test_a_prompt_is_scored(expected: dict[str, Any], client: openai.OpenAI) -> None:
    scored = (
        client.completions.create(model=MODEL, prompt=TEXT, max_tokens=0, echo=True, logprobs=1).choices[0].logprobs
    )
    assert scored is not None and scored.tokens == ["The", " capital", " of", " France", " is"]
    assert scored.token_logprobs is not None and scored.text_offset == [0, 3, 11, 14, 21]
    assert np.allclose(np.array(scored.token_logprobs[1:], np.float64), expected["scores"], atol=1e-4)


def test_it_answers_in_json(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
              "additionalProperties": False}  # fmt: skip
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=40,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"city"}
