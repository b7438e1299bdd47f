"""Answers that must be JSON, and calls of tools, by OpenAI's own client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import openai
import pytest
from pydantic import BaseModel, Field
from tool_templates import HERMES

from kvscape import LLM
from kvscape.engine.async_engine import AsyncEngine
from kvscape.serve import ServeSettings, Service
from kvscape.tokenizer import ChatTemplate
from kvscape.tokenizer.byte_level import BYTE_OF_CHARACTER
from serving import MODEL, served_model, serving
from tiny import SPECIAL_TOKENS, byte_tokens

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ann", "bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": SCHEMA}}
LAMP = {"type": "function", "function": {"name": "lamp"}}
SAID = "<tool_call>"
EOS = SPECIAL_TOKENS.index("<|im_end|>")
TOKENS = {BYTE_OF_CHARACTER[name]: len(SPECIAL_TOKENS) + index for index, name in enumerate(byte_tokens())}


@pytest.fixture(scope="module")
def calling(open_llm: Callable[..., LLM], long_gguf: Path) -> Iterator[openai.OpenAI]:
    """A server of the tiny model with a template that tells it of tools."""
    with open_llm(long_gguf, context_window_size=2048, max_batch_size=8) as llm:
        llm.chat_template = ChatTemplate(HERMES)
        service = Service(AsyncEngine(llm.engine), served_model(llm), ServeSettings())
        with serving(service) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            yield client


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "seed": 1, **fields}
    return client.chat.completions.create(**asked)


def message(client: openai.OpenAI, stream: bool, **fields: Any) -> tuple[str, list[tuple[str, str]], str]:
    """Content, calls and finish reason, of a stream or not."""
    answer = ask(client, stream=stream, **fields)
    if not stream:
        (choice,) = answer.choices
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        return choice.message.content or "", calls, choice.finish_reason
    content, reason = "", ""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for choice in (one for chunk in answer for one in chunk.choices):
        content, reason = content + (choice.delta.content or ""), choice.finish_reason or reason
        for call in choice.delta.tool_calls or []:
            names.setdefault(call.index, call.function.name)
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    return content, [(names[index], arguments[index]) for index in sorted(names)], reason


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_follows_its_schema(client: openai.OpenAI, stream: bool) -> None:
    named = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    for seed in range(5):
        content, _, reason = message(client, stream, response_format=named, seed=seed)
        jsonschema.validate(json.loads(content), SCHEMA)
        assert reason == "stop"


class Pet(BaseModel):
    kind: Literal["cat", "dog"]


class Person(BaseModel):
    """A person, with what pydantic writes into a schema: titles, descriptions and references."""

    name: Literal["ann", "bob"]
    pets: list[Pet] = Field(max_length=2, description="at most two")


def test_the_clients_own_types_are_filled(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "x"}], max_tokens=200, seed=3, response_format=Person
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.parametrize("limited", [False, True])
def test_the_clients_own_stream_gathers_calls(calling: openai.OpenAI, limited: bool) -> None:
    with calling.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "x"}],
        tools=[openai.pydantic_function_tool(Person)],
        tool_choice="required",
        max_tokens=3 if limited else 200,
    ) as stream:
        if limited:
            with pytest.raises(openai.LengthFinishReasonError):
                stream.get_final_completion()
            return
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Person)


def test_any_object_is_an_object(client: openai.OpenAI) -> None:
    content, _, reason = message(client, False, response_format={"type": "json_object"}, max_tokens=300)
    assert content.startswith("{") and (reason == "length" or isinstance(json.loads(content), dict))
    text = message(client, False, response_format={"type": "text"}, temperature=0)
    assert text == message(client, False, temperature=0)


def test_a_schema_that_makes_no_sense_is_refused(client: openai.OpenAI) -> None:
    for schema in ({"type": "nonsense"}, {"$ref": "http://example.org/schema.json"}, {"$ref": "file:///etc/passwd"}):
        named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as raised:
            ask(client, response_format=named)
        assert raised.value.param == "response_format"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called_is_called(calling: openai.OpenAI, stream: bool) -> None:
    chosen = {"type": "function", "function": {"name": "clock"}}
    for choice, tools in ((chosen, [LAMP, CLOCK]), ("required", [CLOCK])):
        content, ((name, arguments),), reason = message(calling, stream, tools=tools, tool_choice=choice)
        jsonschema.validate(json.loads(arguments), SCHEMA)
        assert (content, name, reason) == ("", "clock", "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
def test_any_of_several_tools_must_be_called(calling: openai.OpenAI, stream: bool) -> None:
    names = set()
    for seed in range(6):
        asked = {"tools": [LAMP, CLOCK], "tool_choice": "required", "seed": seed, "temperature": 2}
        content, ((name, arguments),), reason = message(calling, stream, **asked)
        jsonschema.validate(json.loads(arguments), SCHEMA if name == "clock" else {"maxProperties": 0})
        assert (content, reason) == ("", "tool_calls")
        names.add(name)
    assert names == {"clock", "lamp"}


def test_tools_are_told_of_unless_none_may_be_called(calling: openai.OpenAI) -> None:
    plain = ask(calling, max_tokens=1).usage.prompt_tokens
    assert ask(calling, max_tokens=1, tools=[CLOCK]).usage.prompt_tokens > plain
    assert ask(calling, max_tokens=1, tools=[CLOCK], tool_choice="none").usage.prompt_tokens == plain


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_the_model_writes_by_itself_is_read(
    calling: openai.OpenAI, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictate(monkeypatch, f'so {SAID}{{"name": "clock", "arguments": {{"age": 3}}}}</tool_call>')
    content, calls, reason = message(calling, stream, tools=[CLOCK])
    assert (content, calls, reason) == ("so", [("clock", '{"age": 3}')], "tool_calls")
    dictate(monkeypatch, f"{SAID} no call")
    assert message(calling, stream, tools=[CLOCK]) == (f"{SAID} no call", [], "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_several_calls_are_read_unless_one_alone_may_be(
    calling: openai.OpenAI, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [("clock", f'{{"age": {age}}}') for age in (3, 4)]
    tagged = (f'{SAID}{{"name": "clock", "arguments": {arguments}}}</tool_call>' for _, arguments in calls)
    dictate(monkeypatch, "so " + "".join(tagged))
    asked = {"tools": [CLOCK], "max_tokens": 200}
    assert message(calling, stream, **asked, parallel_tool_calls=True) == ("so", calls, "tool_calls")
    assert message(calling, stream, **asked, parallel_tool_calls=False) == ("so", calls[:1], "tool_calls")


def dictate(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the sampler say ``text``, byte by byte, and end."""
    from kvscape.engine import model_runner
    from kvscape.engine.devices.device import CHANGE, Edits
    from kvscape.engine.request import SamplingParams
    from kvscape.engine.sampler import wanted_draw

    def wanted(row: int, sequence: Any, ahead: int) -> Any:
        said = sequence.num_output_tokens
        token = TOKENS[text.encode()[said]] if said < len(text) else EOS
        edits = Edits(np.array([(token, 1, 1, 1e6)], CHANGE), None)
        return wanted_draw(row, sequence, ahead)._replace(edits=edits)

    monkeypatch.setattr(SamplingParams, "is_plain", False)
    monkeypatch.setattr(model_runner, "wanted_draw", wanted)


def test_what_does_not_go_together_is_refused(calling: openai.OpenAI) -> None:
    for fields in (
        {"tools": [CLOCK], "response_format": {"type": "json_object"}},
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tool_choice": "required"},
    ):
        with pytest.raises(openai.BadRequestError):
            ask(calling, **fields)
