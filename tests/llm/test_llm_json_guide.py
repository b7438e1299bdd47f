"""Answers that are JSON: they parse and fit their schema, whatever the model would rather say."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from random_schemas import random_schema

from kvscape import LLM
from kvscape.engine import Output, Request, SamplingParams
from kvscape.engine.guide import BoolArray
from kvscape.errors import ConfigError, EngineError
from kvscape.llm import json_guide
from kvscape.llm.json_guide import MOST_SCHEMA_CHARS, JsonGuide, JsonGuides, MakeGuide, Schema

SCHEMAS = 220
HANGS_S = 60
SAMPLED = SamplingParams(max_tokens=600, temperature=1.0)
LONG_TEXT: Schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 90}}, "required": ["a"]}


@pytest.fixture(scope="module")
def llm(open_llm: Callable[..., LLM], long_gguf: Path) -> Iterator[LLM]:
    with open_llm(long_gguf, context_window_size=1024, max_batch_size=16, max_total_sequence_length=4096) as opened:
        yield opened


def answers(llm: LLM, guides: list[MakeGuide], params: SamplingParams = SAMPLED) -> list[list[Output]]:
    """What the engine says under each guide, all in one batch after the other."""
    got: list[list[Output]] = [[] for _ in guides]
    for index, guide in enumerate(guides):
        prompt = (5, 6 + index % 200)
        llm.engine.add(Request(str(index), prompt, replace(params, seed=params.seed + index), guide=guide))
    while llm.engine.has_work:
        for output in llm.engine.step():
            got[int(output.request_id)].append(output)
    return got


def text(outputs: list[Output]) -> str:
    return "".join(output.text for output in outputs)


def answer(llm: LLM, schema: Schema, **fields: Any) -> tuple[str, str | None]:
    (outputs,) = answers(llm, [llm.json_guides.schema(schema)], replace(SAMPLED, **fields))
    return text(outputs), outputs[-1].finish_reason


def test_what_random_schemas_give_parses_and_fits(llm: LLM) -> None:
    schemas = [random_schema(seed) for seed in range(SCHEMAS)]
    got = answers(llm, [llm.json_guides.schema(schema) for schema in schemas])
    reasons = [outputs[-1].finish_reason for outputs in got]
    assert reasons == ["stop"] * SCHEMAS, [outputs[-1].error for outputs in got if outputs[-1].error]
    for schema, outputs in zip(schemas, got, strict=True):
        jsonschema.Draft202012Validator(schema).validate(json.loads(text(outputs)))
    assert len({text(outputs) for outputs in got}) > SCHEMAS / 2
    assert all(pool.num_free == pool.num_pages for pool in llm.engine.cache.allocators)


def test_random_schemas_are_of_every_kind() -> None:
    written = json.dumps([random_schema(seed) for seed in range(SCHEMAS)])
    words = (
        "anyOf",
        "$ref",
        "prefixItems",
        "enum",
        "const",
        "pattern",
        "format",
        "minItems",
        "exclusiveMinimum",
        "null",
    )
    assert all(f'"{word}"' in written for word in words)


def test_greedy_answers_fit_too(llm: LLM) -> None:
    schema: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    said, reason = answer(llm, schema, temperature=0.0)
    jsonschema.validate(json.loads(said), schema)
    assert reason == "stop"


def test_any_object_is_an_object(llm: LLM) -> None:
    closing = tuple((token, 4.0) for token in range(320) if llm.tokenizer.token_bytes(token) in (b'"', b"}", b"]"))
    got = answers(llm, [llm.json_guides.any_object()] * 8, replace(SAMPLED, logit_bias=closing))
    ended = [outputs for outputs in got if outputs[-1].finish_reason == "stop"]
    assert len(ended) >= 6 and all(isinstance(json.loads(text(outputs)), dict) for outputs in ended)


def test_max_tokens_cuts_an_answer_and_says_so(llm: LLM) -> None:
    said, reason = answer(llm, LONG_TEXT, max_tokens=20)
    assert reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(said)


def test_white_space_cannot_go_on_for_ever(llm: LLM) -> None:
    blanks = [token for token in range(320) if llm.tokenizer.token_bytes(token).isspace()]
    schema: Schema = {
        "type": "array",
        "items": {"type": "integer", "maximum": 9, "minimum": 0},
        "minItems": 3,
        "maxItems": 3,
    }
    said, reason = answer(llm, schema, logit_bias=tuple((token, 100.0) for token in blanks))
    assert reason == "stop" and len(said) <= len("[1, 2, 3]")


def test_a_recursive_schema_is_bounded_by_max_tokens(llm: LLM) -> None:
    tree: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert answer(llm, tree, max_tokens=60)[1] == "length"
    tree["properties"]["next"] = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    tree["additionalProperties"] = False
    said, reason = answer(llm, tree)
    assert reason == "stop" and "next" in json.loads(said)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "string", "pattern": "(["}, ""),
        ({"$ref": "https://example.com/schema.json"}, ""),
        ({"$ref": "#/$defs/nowhere"}, ""),
        ({"type": "object", "unknownKeyword": 1, "minProperties": "x"}, ""),
        ({"$ref": "#"}, "no text goes on as it says (NoExtensionBias)"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no text goes on"),
        ({"const": float("nan")}, ""),
        ({"enum": ["x" * MOST_SCHEMA_CHARS]}, "100,0"),
        (False, ""),
    ],
)
def test_a_schema_that_cannot_be_used_is_one_clear_line(llm: LLM, schema: Any, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(ConfigError) as refused:
        llm.json_guides.schema(schema)
    line = str(refused.value)
    assert line.startswith("the JSON schema cannot be used: ") and "\n" not in line and message in line
    assert time.monotonic() - start < HANGS_S


def test_a_schema_nested_without_end_is_refused(llm: LLM) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(20_000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ConfigError, match="the JSON schema cannot be used"):
        llm.json_guides.schema(schema)


def test_a_schema_that_is_costly_to_follow_holds_nobody_up(llm: LLM) -> None:
    start = time.monotonic()
    costly: Schema = {"type": "string", "pattern": "((a{1,400}){1,400}){1,400}"}
    assert answer(llm, costly, max_tokens=50)[1] in ("length", "error")
    assert time.monotonic() - start < HANGS_S


def test_a_schema_cannot_set_the_layout(llm: LLM) -> None:
    layout = {"whitespace_flexible": True, "item_separator": "[ ,]*"}
    loose: Schema = {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2, "x-guidance": layout}
    assert answer(llm, loose)[0].replace(" ", "") == "[1,1]"


def test_a_token_that_is_not_allowed_ends_the_guide(llm: LLM) -> None:
    guide = llm.json_guides.schema({"type": "integer"})()
    allowed = guide.allowed()
    assert allowed.dtype == np.bool_ and len(allowed) == llm.metadata.model.vocab_size
    with pytest.raises(EngineError, match="the answer left its JSON schema"):
        guide.accept(int(np.flatnonzero(~allowed)[-1]))


def test_a_schema_that_leads_nowhere_is_the_requests_own_mistake(llm: LLM) -> None:
    within = {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}
    nowhere: Schema = {
        "type": "object", "required": ["a"], "additionalProperties": False,
        "properties": {"a": {"anyOf": [{"const": 1}, within]}},
        "$defs": {"a": {"$ref": "#/$defs/a"}},
    }  # fmt: skip
    guide = llm.json_guides.schema(nowhere)()
    with pytest.raises(ConfigError, match="the JSON schema cannot be used: no text goes on"):
        for piece in ('{"', "a", '":', "["):
            for token_id in llm.tokenizer.encode(piece):
                guide.allowed()
                guide.accept(token_id)
        guide.allowed()


def test_without_the_package_one_clear_line_says_what_to_install(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"llguidance is not installed; pip install 'kvscape\[serve\]'"):
        JsonGuides(llm.tokenizer, 320, (2,))
    assert json_guide.MOST_SCHEMA_CHARS


def test_what_a_guide_raises_is_what_a_caller_sees(llm: LLM) -> None:
    class Raises(JsonGuide):
        def allowed(self) -> BoolArray:
            raise OSError("mask")

    def make() -> Raises:
        return Raises(None, 320)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="mask"):
        llm.complete([[5, 6]], SAMPLED, make)
    assert not llm.engine.has_work and llm.complete([[5, 6]], SamplingParams(max_tokens=2))


def test_guided_and_free_requests_share_a_batch_and_its_choices(llm: LLM) -> None:
    schema: Schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}
    (completion,) = llm.complete([[5, 6, 7]], replace(SAMPLED, n=4), llm.json_guides.schema(schema))
    said = [json.loads(choice.text) for choice in completion.choices]
    assert all(len(one) == 2 for one in said)
