"""``/v1/completions`` by OpenAI's own client, beside what the engine says without a server."""

from typing import Any

import numpy as np
import openai
import pytest

from kvscape import LLM, SamplingParams
from serving import MODEL


def complete(client: openai.OpenAI, prompt: Any = "the thing", **fields: Any) -> Any:
    asked = {"model": MODEL, "prompt": prompt, "max_tokens": 6, "temperature": 0, **fields}
    return client.completions.create(**asked)


def test_a_text_is_gone_on_with(client: openai.OpenAI, reference_llm: LLM) -> None:
    expected = reference_llm.generate("the thing", SamplingParams(max_tokens=6))
    answer = complete(client)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == (expected.text, "length", None)
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids) and answer.usage.completion_tokens == 6


def test_sixteen_tokens_are_the_default(client: openai.OpenAI) -> None:
    assert complete(client, max_tokens=None, extra_body={"ignore_eos": True}).usage.completion_tokens == 16


def test_all_forms_of_a_prompt_are_one(client: openai.OpenAI, reference_llm: LLM) -> None:
    token_ids = reference_llm.tokenizer.encode("the thing", add_bos=True)
    texts = [
        complete(client, prompt).choices[0].text for prompt in ("the thing", ["the thing"], token_ids, [token_ids])
    ]
    assert len(set(texts)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_choices_of_several_prompts_are_numbered(client: openai.OpenAI, reference_llm: LLM, stream: bool) -> None:
    prompts = ["the thing", "other", "and"]
    expected = []
    for text in prompts:
        params = SamplingParams(max_tokens=6, temperature=1.0, n=2, seed=5)
        expected += [choice.text for choice in reference_llm.generate(text, params).choices]
    answer = complete(client, prompts, n=2, temperature=1, seed=5, stream=stream)
    texts = [""] * 6
    for part in answer if stream else [answer]:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert texts == expected


def test_a_stream_ends_with_its_reason_and_usage(client: openai.OpenAI) -> None:
    *pieces, last = list(complete(client, stream=True, stream_options={"include_usage": True}))
    whole = complete(client)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert [piece.choices[0].finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert last.choices == [] and last.usage.total_tokens == whole.usage.total_tokens


def test_logprobs_name_tokens_and_where_they_begin(client: openai.OpenAI, reference_llm: LLM) -> None:
    expected = reference_llm.generate("the thing", SamplingParams(max_tokens=6, logprobs=2)).logprobs
    (choice,) = complete(client, logprobs=2).choices
    assert choice.logprobs.token_logprobs == [entry.logprob for entry in expected]
    assert [max(top.values()) for top in choice.logprobs.top_logprobs] == [entry.top[0][1] for entry in expected]
    assert all(name in top for name, top in zip(choice.logprobs.tokens, choice.logprobs.top_logprobs, strict=True))
    for name, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
        assert name.startswith(("bytes:", "<|")) or choice.text[offset:].startswith(name)


def test_streamed_logprobs_are_those_of_the_whole_text(client: openai.OpenAI) -> None:
    whole = complete(client, logprobs=1).choices[0].logprobs
    parts = [piece.choices[0].logprobs for piece in complete(client, logprobs=1, stream=True)]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [entry for part in parts if part for entry in getattr(part, name)] == getattr(whole, name)


@pytest.mark.parametrize("stream", [False, True])
def test_an_echoed_prompt_is_scored(client: openai.OpenAI, reference_llm: LLM, stream: bool) -> None:
    answer = complete(client, ["the thing", "another one"], echo=True, logprobs=1, max_tokens=2, n=2, stream=stream)
    parts = list(answer) if stream else [answer]
    choices = [choice for part in parts for choice in part.choices]
    assert [choice.index for choice in choices] == [0, 1, 2, 3]
    for choice in choices:
        prompt = ("the thing", "another one")[choice.index // 2]
        scores = reference_llm.score(prompt)
        logprobs = choice.logprobs
        assert choice.text.startswith(prompt) and logprobs.token_logprobs[0] is logprobs.top_logprobs[0] is None
        assert np.allclose(logprobs.token_logprobs[1 : len(scores) + 1], scores, atol=1e-5)
        assert len(logprobs.tokens) == len(scores) + 1 + 2 and logprobs.text_offset[0] == 0


def test_a_prompt_is_scored_alone(client: openai.OpenAI, reference_llm: LLM) -> None:
    (choice,) = complete(client, echo=True, logprobs=0, max_tokens=0).choices
    assert (choice.text, choice.finish_reason) == ("the thing", "length")
    assert np.allclose(choice.logprobs.token_logprobs[1:], reference_llm.score("the thing"), atol=1e-5)
    assert choice.logprobs.top_logprobs is None


def test_the_likeliest_tokens_stand_beside_each_of_the_prompts(client: openai.OpenAI, reference_llm: LLM) -> None:
    token_ids = reference_llm.tokenizer.encode("the thing", add_bos=True)
    rows = np.concatenate(list(reference_llm.engine.distributions(token_ids)))
    logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    tops = complete(client, echo=True, logprobs=2, max_tokens=0).choices[0].logprobs.top_logprobs
    for row, top in zip(logprobs, tops[1:], strict=True):
        assert np.isclose(max(top.values()), row.max(), atol=1e-4) and len(top) in (2, 3)


@pytest.mark.parametrize("stream", [False, True])
def test_what_needs_no_model_is_answered_too(client: openai.OpenAI, stream: bool) -> None:
    for echo, text in ((True, "the thing"), (False, "")):
        answer = complete(client, echo=echo, max_tokens=0, stream=stream)
        (choice,) = [one for part in (answer if stream else [answer]) for one in part.choices]
        assert (choice.text, choice.finish_reason) == (text, "length")
    (single,) = complete(client, [5], echo=True, max_tokens=0, logprobs=0).choices
    assert single.logprobs.token_logprobs == [None]


def test_an_echo_comes_first(client: openai.OpenAI) -> None:
    first, *rest = complete(client, stream=True, echo=True)
    assert first.choices[0].text == "the thing"
    assert "".join(piece.choices[0].text for piece in rest) == complete(client).choices[0].text


def test_echoed_tokens_are_their_text(client: openai.OpenAI, reference_llm: LLM) -> None:
    token_ids = reference_llm.tokenizer.encode("the thing")
    assert complete(client, token_ids, echo=True).choices[0].text.startswith("the thing")
