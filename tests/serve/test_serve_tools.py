"""Calls in a model's text: whole, and however it is cut into pieces."""

import json
from collections.abc import Callable
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_templates import HERMES, LLAMA3, QWEN

from kvscape.errors import ConfigError
from kvscape.serve.tools import (
    TOOL_FORMATS,
    CallDelta,
    ContentDelta,
    ToolDelta,
    ToolFormat,
    find_tool_format,
    joined,
    tool_format,
)

Parsed = tuple[str, list[tuple[str, str]]]

WEATHER = '{"name": "weather", "arguments": {"city": "Köln"}}'
CLOCK = '{"name": "clock", "arguments": {}}'
WEATHER_CALL, CLOCK_CALL = ("weather", '{"city": "Köln"}'), ("clock", "{}")
TAGGED_WEATHER, TAGGED_CLOCK = (f"<tool_call>\n{call}\n</tool_call>" for call in (WEATHER, CLOCK))
LLAMA_WEATHER = '{"name": "weather", "parameters": {"city": "Köln"}}'
LLAMA_CLOCK = '{"name": "clock", "parameters": {}}'


ESCAPES = '<tool_call>{"name": "f", "arguments": {"a": "\\"}\\\\"}}</tool_call>'


def numbered() -> Callable[[], str]:
    numbers = count()
    return lambda: f"call_{next(numbers)}"


def parsed(name: str, text: str, prompt: str = "") -> Parsed:
    found = TOOL_FORMATS[name].parse(text, prompt)
    return found.content, [(call.name, call.arguments) for call in found.calls]


def streamed(tools: ToolFormat, pieces: list[str]) -> list[ToolDelta]:
    stream = tools.stream(new_id=numbered())
    return [*(delta for piece in pieces for delta in stream.add(piece)), *stream.finish()]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("It rains.\n", ("It rains.\n", [])),
        (TAGGED_WEATHER, ("", [WEATHER_CALL])),
        (f"<tool_call>{WEATHER}</tool_call>", ("", [WEATHER_CALL])),
        (f"Let me see.\n\n{TAGGED_WEATHER}\n{TAGGED_CLOCK}\n", ("Let me see.", [WEATHER_CALL, CLOCK_CALL])),
        (f"First {TAGGED_CLOCK} then\n", ("First then\n", [CLOCK_CALL])),
        (f"<tool_call>\n{CLOCK}", ("", [CLOCK_CALL])),
        (f"<tool_call>\n{CLOCK}\n</tool_", ("", [CLOCK_CALL])),
        ("Write <tool_call> first.", ("Write <tool_call> first.", [])),
        (f"Write <tool_call> first: {TAGGED_CLOCK}", ("Write <tool_call> first:", [CLOCK_CALL])),
        (
            '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
            ("", [("f", '{"a": "</tool_call>"}')]),
        ),
    ],
)
@pytest.mark.parametrize("name", ["hermes", "qwen"])
def test_calls_in_tags(name: str, text: str, says: Parsed) -> None:
    assert parsed(name, text) == says


MALFORMED = [
    '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>',
    '<tool_call>\n{"name": "f, "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": "f"}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "x"}\n</tool_call>',
    '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": 7, "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {"a": NaN}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {"a": 1e999}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {"a": "\\ud800"}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}\n</tool_call>",
    '<tool_call>\n{"name": "f", "arguments": {"a": ' + "9" * 10_000 + "}}\n</tool_call>",
    '<tool_call>\n[{"name": "f", "arguments": {}}]\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {}} and so on\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {',
    "<tool_call>",
]


@pytest.mark.parametrize("text", MALFORMED)
@pytest.mark.parametrize("name", ["hermes", "qwen"])
def test_what_is_no_call_stays_content_and_the_next_call_is_found(name: str, text: str) -> None:
    assert parsed(name, text) == (text, [])
    if text.endswith("</tool_call>"):
        assert parsed(name, text + TAGGED_CLOCK) == (text, [CLOCK_CALL])


def test_a_thought_only_talks_about_calls() -> None:
    thought = f"<think>\nI could write {TAGGED_WEATHER}.\n</think>"
    assert parsed("qwen", f"{thought}\n\n{TAGGED_CLOCK}") == (thought, [CLOCK_CALL])
    assert parsed("qwen", f"{thought}\n\nNo.") == (f"{thought}\n\nNo.", [])
    assert parsed("qwen", f"<think>{TAGGED_CLOCK}") == (f"<think>{TAGGED_CLOCK}", [])
    assert parsed("qwen", "<thin") == ("<thin", [])
    assert parsed("qwen", f"\n{thought}{TAGGED_CLOCK}") == (f"\n{thought}", [CLOCK_CALL])


def test_a_prompt_may_have_begun_the_thought() -> None:
    text = f"I could write {TAGGED_WEATHER}.</think>{TAGGED_CLOCK}"
    assert parsed("qwen", text, "<|im_start|>assistant\n<think>\n") == (
        f"I could write {TAGGED_WEATHER}.</think>",
        [CLOCK_CALL],
    )
    assert parsed("qwen", TAGGED_CLOCK, "<think>\n\n</think>\n\n") == ("", [CLOCK_CALL])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("It rains.\n", ("It rains.\n", [])),
        (LLAMA_WEATHER, ("", [WEATHER_CALL])),
        (f"\n{WEATHER}\n", ("", [WEATHER_CALL])),
        (f"<|python_tag|>{LLAMA_WEATHER}", ("", [WEATHER_CALL])),
        (f"{LLAMA_WEATHER}; {LLAMA_CLOCK}", ("", [WEATHER_CALL, CLOCK_CALL])),
        (f"<|python_tag|>{LLAMA_WEATHER};{LLAMA_CLOCK};", ("", [WEATHER_CALL, CLOCK_CALL])),
        (f"<|python_tag|>{LLAMA_WEATHER} ; <|python_tag|>{LLAMA_CLOCK}", ("", [WEATHER_CALL, CLOCK_CALL])),
        (f"{LLAMA_WEATHER}<|python_tag|>{LLAMA_CLOCK}", ("", [WEATHER_CALL, CLOCK_CALL])),
        (f"Let me see. <|python_tag|>{LLAMA_CLOCK}", ("Let me see.", [CLOCK_CALL])),
        (f"Like {LLAMA_CLOCK}", (f"Like {LLAMA_CLOCK}", [])),
        (f"{LLAMA_CLOCK} is it", (" is it", [CLOCK_CALL])),
        (f"{LLAMA_CLOCK}; but", ("; but", [CLOCK_CALL])),
        ('<|python_tag|>search.call(query="x")', ('<|python_tag|>search.call(query="x")', [])),
        ('{"name": "a;b", "parameters": {"c": "};{"}}', ("", [("a;b", '{"c": "};{"}')])),
        ('{"answer": 42}', ('{"answer": 42}', [])),
        (f'{{"answer": 42}};<|python_tag|>{LLAMA_CLOCK}', ('{"answer": 42};', [CLOCK_CALL])),
        ('{"name": "f", "parameters": {"a": }}', ('{"name": "f", "parameters": {"a": }}', [])),
        ('{"name": "f", "parameters": {}, "arguments": {}}', ('{"name": "f", "parameters": {}, "arguments": {}}', [])),
        ("{", ("{", [])),
        ("<|python", ("<|python", [])),
        ("<|python_tag|>", ("<|python_tag|>", [])),
    ],
)
def test_calls_of_llama3(text: str, says: Parsed) -> None:
    assert parsed("llama3", text) == says


def test_deltas_are_in_openais_order() -> None:
    found = streamed(TOOL_FORMATS["hermes"], [f"So: {TAGGED_WEATHER}{TAGGED_CLOCK}"])
    assert found == [
        ContentDelta("So:"),
        CallDelta(0, "call_0", "weather"),
        CallDelta(0, arguments='{"city": "Köln"}'),
        CallDelta(1, "call_1", "clock"),
        CallDelta(1, arguments="{}"),
    ]


def test_a_call_is_told_as_soon_as_it_is_complete() -> None:
    stream = TOOL_FORMATS["hermes"].stream()
    assert stream.add(f"Hm <tool_call>{WEATHER}</tool_call") == [ContentDelta("Hm")]
    assert [type(delta) for delta in stream.add(">")] == [CallDelta, CallDelta]


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_content_is_not_kept_waiting(name: str) -> None:
    stream = TOOL_FORMATS[name].stream()
    pieces = ["Two", " words", " <", "b> and", " <", "|tools>"]
    assert [joined(stream.add(piece)).content for piece in pieces] == ["Two", " words", "", " <b> and", "", " <|tools>"]


def test_an_escape_that_is_cut_in_two() -> None:
    tools = TOOL_FORMATS["hermes"]
    assert joined(streamed(tools, list(ESCAPES))) == tools.parse(ESCAPES, new_id=numbered())
    assert parsed("hermes", ESCAPES) == ("", [("f", '{"a": "\\"}\\\\"}')])


def test_every_call_has_an_id_of_its_own() -> None:
    calls = TOOL_FORMATS["hermes"].parse(TAGGED_CLOCK * 50).calls
    assert len({call.id for call in calls}) == 50


FRAGMENTS = [
    "<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", ";", " ", "\n", "{", "}", '"', "\\", "<",
    WEATHER, CLOCK, LLAMA_WEATHER, TAGGED_CLOCK, '{"name": "f", "arguments": {"a": "<tool_call>', '{"a": [{"b": 2}]}',
    "<tool", "<|py", "</tool_call", "é",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


@pytest.mark.parametrize("name", TOOL_FORMATS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 300), max_size=30))
def test_any_cut_of_any_text_says_what_the_whole_says(name: str, text: str, cuts: list[int]) -> None:
    tools = TOOL_FORMATS[name]
    whole = tools.parse(text, new_id=numbered())
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for pieces in ([text[a:b] for a, b in pairwise(places)], list(text)):
        assert joined(streamed(tools, pieces)) == whole
    assert all(isinstance(json.loads(call.arguments), dict) for call in whole.calls)


@pytest.mark.parametrize("name", TOOL_FORMATS)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_a_text_without_calls_is_content_as_it_stands(name: str, text: str) -> None:
    found = TOOL_FORMATS[name].parse(text)
    assert found.calls or found.content == text


@pytest.mark.parametrize("name", TOOL_FORMATS)
@pytest.mark.parametrize("text", ['<tool_call>{"a":[', "<tool_call>", '{"a": "', "{", "<|python_tag|>"])
def test_a_hostile_text_takes_linear_time(name: str, text: str) -> None:
    stream = TOOL_FORMATS[name].stream()
    deltas = [delta for _ in range(5_000) for delta in stream.add(text)]
    assert joined([*deltas, *stream.finish()]).content == text * 5_000


@pytest.mark.parametrize(
    ("template", "name"), [(HERMES, "hermes"), (QWEN, "qwen"), (LLAMA3, "llama3"), ("<|python_tag|>", "llama3")]
)
def test_the_chat_template_names_the_format(template: str, name: str) -> None:
    found = find_tool_format(template)
    assert found is not None and found.name == name


def test_a_template_without_calls_names_none() -> None:
    assert find_tool_format("<|im_start|>{{ messages }}") is None
    assert find_tool_format("<|start_header_id|>{{ messages }}") is None


def test_a_format_by_name() -> None:
    assert tool_format("qwen") is TOOL_FORMATS["qwen"]
    with pytest.raises(ConfigError, match="tool format 'qwem' is not known; did you mean 'qwen'"):
        tool_format("qwem")
