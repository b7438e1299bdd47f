"""``/v1/chat/completions`` by OpenAI's own client, beside what the engine says without a server."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from kvscape import LLM, SamplingParams
from serving import ALIAS, MODEL

QUESTION: list[Any] = [{"role": "user", "content": "the thing"}]


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 0, **fields}
    return client.chat.completions.create(**asked)


def streamed(client: openai.OpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    return list(chat(client, stream=True, **fields))


def contents(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_an_answer_is_the_engines(client: openai.OpenAI, reference_llm: LLM) -> None:
    expected = reference_llm.chat(QUESTION, SamplingParams(max_tokens=8))
    answer = chat(client)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (expected.text, expected.finish_reason)
    assert (choice.message.role, choice.message.tool_calls, choice.logprobs) == ("assistant", None, None)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == MODEL
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert answer.usage.completion_tokens == len(expected.token_ids)
    assert answer.usage.total_tokens == len(expected.prompt_token_ids) + len(expected.token_ids)


def test_a_stream_is_the_same_answer_in_openais_order(client: openai.OpenAI) -> None:
    whole = chat(client).choices[0]
    chunks = streamed(client)
    first, last = chunks[0].choices[0], chunks[-1].choices[0]
    assert (first.delta.role, first.delta.content, first.finish_reason) == ("assistant", "", None)
    assert (last.delta.content, last.finish_reason) == (None, whole.finish_reason)
    assert contents(chunks) == whole.message.content and len(chunks) > 3
    assert len({chunk.id for chunk in chunks}) == 1 and {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_last_when_asked(client: openai.OpenAI) -> None:
    *chunks, last = streamed(client, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == chat(client).usage
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)


def test_the_second_time_a_prompt_is_cached(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "the same beginning of a long enough prompt, " * 2}]
    first, second = (chat(client, messages=messages).usage for _ in range(2))
    assert second.prompt_tokens - 32 < second.prompt_tokens_details.cached_tokens < second.prompt_tokens
    assert first.prompt_tokens_details.cached_tokens < second.prompt_tokens_details.cached_tokens


def test_seeds_choose_and_choices_count_on_from_them(client: openai.OpenAI, reference_llm: LLM) -> None:
    fields = {"temperature": 1.5, "top_p": 0.9, "n": 3, "seed": 11}
    params = SamplingParams(max_tokens=8, temperature=1.5, top_p=0.9, n=3, seed=11)
    expected = [choice.text for choice in reference_llm.chat(QUESTION, params).choices]
    assert [choice.message.content for choice in chat(client, **fields).choices] == expected
    chunks = streamed(client, **fields)
    assert [contents(chunks, index) for index in range(3)] == expected and len(set(expected)) == 3


def test_without_a_seed_each_answer_is_another(client: openai.OpenAI) -> None:
    answers = {chat(client, temperature=None, max_tokens=12).choices[0].message.content for _ in range(3)}
    assert len(answers) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_penalty": 1.5}, {"presence_penalty": 2.0}, {"extra_body": {"repetition_penalty": 3.0}},
        {"temperature": 1.0, "seed": 3, "extra_body": {"top_k": 2}},
        {"temperature": 1.0, "seed": 3, "extra_body": {"min_p": 0.5}},
    ],
)  # fmt: skip
def test_sampling_fields_reach_the_engine(client: openai.OpenAI, reference_llm: LLM, fields: dict[str, Any]) -> None:
    extra = fields.get("extra_body", {})
    params = {name: value for name, value in fields.items() if name != "extra_body"} | extra
    expected = reference_llm.chat(QUESTION, SamplingParams(max_tokens=24, **params)).text
    assert chat(client, max_tokens=24, **fields).choices[0].message.content == expected
    plain = reference_llm.chat(
        QUESTION, SamplingParams(max_tokens=24, temperature=params.get("temperature", 0), seed=3)
    )
    assert plain.text != expected


def test_a_biased_token_is_chosen(client: openai.OpenAI, reference_llm: LLM) -> None:
    (token,) = reference_llm.tokenizer.encode("Q")
    assert chat(client, logit_bias={str(token): 100}).choices[0].message.content == "Q" * 8
    first, second = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content[0].top_logprobs
    banned = reference_llm.chat(QUESTION, SamplingParams(max_tokens=1)).token_ids[0]
    other = chat(client, logit_bias={str(banned): -100}, logprobs=True).choices[0].logprobs.content[0]
    assert (other.bytes, other.logprob) == (second.bytes, second.logprob) and first.logprob > second.logprob


@pytest.mark.parametrize("stop", ["QQ", ["xyz", "QQ"]])
def test_a_stop_string_ends_an_answer_and_is_not_in_it(client: openai.OpenAI, reference_llm: LLM, stop: Any) -> None:
    (token,) = reference_llm.tokenizer.encode("Q")
    (choice,) = chat(client, logit_bias={str(token): 100}, stop=stop).choices
    assert (choice.message.content, choice.finish_reason) == ("", "stop")


def test_the_limit_is_either_name_or_the_context(client: openai.OpenAI) -> None:
    assert chat(client, max_tokens=None, max_completion_tokens=3).usage.completion_tokens == 3
    unlimited = chat(client, max_tokens=None, extra_body={"ignore_eos": True})
    assert unlimited.usage.total_tokens == 512 and unlimited.choices[0].finish_reason == "length"


def test_logprobs_are_the_models_own(client: openai.OpenAI, reference_llm: LLM) -> None:
    expected = reference_llm.chat(QUESTION, SamplingParams(max_tokens=8, logprobs=3)).logprobs
    content = chat(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [entry.logprob for entry in content] == [entry.logprob for entry in expected]
    spelled = [list(reference_llm.tokenizer.token_bytes(entry.token_id)) or None for entry in expected]
    assert [entry.bytes for entry in content] == spelled
    tops = [[top.logprob for top in entry.top_logprobs] for entry in content]
    assert tops == [[logprob for _, logprob in entry.top] for entry in expected]


def test_streamed_logprobs_are_those_of_the_whole_answer(client: openai.OpenAI) -> None:
    whole = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    chunks = streamed(client, logprobs=True, top_logprobs=2)
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    assert [entry for part in parts if part for entry in part.content or []] == whole


def test_the_token_that_ends_is_no_part_of_the_answer(client: openai.OpenAI, reference_llm: LLM) -> None:
    (eos,) = reference_llm.metadata.model.eos_token_ids
    answer = chat(client, logit_bias={str(eos): 100}, logprobs=True)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason, choice.logprobs.content) == ("", "stop", [])
    assert answer.usage.completion_tokens == 1


def test_text_parts_and_roles_make_the_same_prompt(client: openai.OpenAI) -> None:
    plain = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the thing"}]
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "thing"}]
    others = [{"role": "developer", "content": "be kind"}, {"role": "user", "content": parts}]
    one, other = chat(client, messages=plain), chat(client, messages=others)
    assert one.choices == other.choices and one.usage.prompt_tokens == other.usage.prompt_tokens


def test_fields_that_change_nothing_are_accepted(client: openai.OpenAI) -> None:
    ignored: dict[str, Any] = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    assert chat(client, **ignored, parallel_tool_calls=True, safety_identifier="x").choices == chat(client).choices


def test_an_alias_names_the_model(client: openai.OpenAI) -> None:
    assert chat(client, model=ALIAS).model == MODEL
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(ALIAS).id == client.models.retrieve(MODEL).id == MODEL


def test_the_asynchronous_client_gets_many_answers_at_once(url: str, reference_llm: LLM) -> None:
    expected = [reference_llm.chat([_said(number)], SamplingParams(max_tokens=6)).text for number in range(12)]

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(_read(client, number) for number in range(12)))

    assert asyncio.run(ask()) == expected


def _said(number: int) -> Any:
    return {"role": "user", "content": f"thing {number}"}


async def _read(client: openai.AsyncOpenAI, number: int) -> str:
    asked: Any = {"model": MODEL, "messages": [_said(number)], "max_tokens": 6, "temperature": 0}
    if number % 2:
        return str((await client.chat.completions.create(**asked)).choices[0].message.content)
    chunks = await client.chat.completions.create(**asked, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
