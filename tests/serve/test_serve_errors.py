"""What a request can have wrong: OpenAI's error object, the right status, and never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from kvscape.engine.async_engine import AsyncEngine
from serving import MODEL, PATIENCE_S, assert_all_free

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client


def chat(**fields: Any) -> tuple[str, bytes]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, **fields}
    return CHAT, json.dumps(body).encode()


def message(**fields: Any) -> tuple[str, bytes]:
    return chat(messages=[fields])


def text(**fields: Any) -> tuple[str, bytes]:
    return TEXT, json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 2, **fields}).encode()


def raw(content: bytes) -> tuple[str, bytes]:
    return CHAT, content


WRONG: dict[str, tuple[tuple[str, bytes], str | None, str]] = {
    "nothing": (raw(b""), None, "missing"),
    "no JSON": (raw(b"{"), None, "JSON"),
    "no object": (raw(b"null"), None, "object"),
    "a list": (raw(b"[1]"), None, "object"),
    "no UTF-8": (raw(b'{"model":"\xff\xfe"}'), None, "JSON"),
    "bottomless": (raw(b'{"a":' * 100_000), None, "recursion"),
    "a lone surrogate": (raw(rb'{"model":"tiny","messages":[{"role":"user","content":"\ud800"}]}'), None, "JSON"),
    "not a number": (raw(b'{"temperature":NaN}'), None, "JSON"),
    "infinity": (raw(b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":1e999}'),
                 "temperature", "finite"),
    "a huge number": (chat(seed=10**300), "seed", "less"),
    "more digits than Python reads": (raw(b'{"seed":' + b"9" * 5000 + b"}"), None, "JSON"),
    "no model": (raw(b'{"messages":[{"role":"user","content":"x"}]}'), "model", "missing"),
    "no messages": (chat(messages=[]), "messages", "at least 1"),
    "an unknown role": (message(role="robot", content="x"), "messages[0]", "robot"),
    "a number for a text": (message(role="user", content=3), "messages[0].content", "string"),
    "an image": (message(role="user", content=[{"type": "image_url", "image_url": {"url": "http://x"}}]),
                 "messages[0].content[0].type", "text only"),
    "an unknown field": (chat(temprature=1), "temprature", "unknown"),
    "an unknown field within": (message(role="user", content="x", colour="red"), "messages[0].colour", "unknown"),
    "an unsupported field": (chat(functions=[]), "functions", "not supported"),
    "a text for a number": (chat(temperature="1"), "temperature", "number"),
    "too hot": (chat(temperature=2.5), "temperature", "2"),
    "no choices": (chat(n=0), "n", "1"),
    "too many choices": (chat(n=10**6), "n", "128"),
    "no tokens": (chat(max_tokens=0), "max_tokens", "1"),
    "an empty stop": (chat(stop=""), "stop", "1 character"),
    "a bias for no token": (chat(logit_bias={"a": 1}), "logit_bias.a", "pattern"),
    "a bias too large": (chat(logit_bias={"1": 1e6}), "logit_bias.1", "100"),
    "a bias beyond the vocabulary": (chat(logit_bias={"99999": 1}), None, "vocabulary"),
    "top_logprobs alone": (chat(top_logprobs=2), "top_logprobs", "logprobs"),
    "stream_options alone": (chat(stream_options={"include_usage": True}), "stream_options", "stream"),
    "a choice of no tools": (chat(tool_choice="required"), "tool_choice", "no tools"),
    "tools that the template does not name": (
        chat(tools=[{"type": "function", "function": {"name": "f"}}]), "messages", "no tools"),
    "an empty prompt": (text(prompt=""), "prompt", "empty"),
    "no prompts": (text(prompt=[]), "prompt", "at least 1"),
    "a mixed prompt": (text(prompt=["x", 1]), "prompt[1]", "valid"),
    "a negative token": (text(prompt=[-1]), "prompt[0]", "0"),
    "a token beyond the vocabulary": (text(prompt=[320]), None, "vocabulary"),
    "too many prompts": (text(prompt=["x"] * 100, n=2), "n", "128"),
    "best_of": (text(best_of=3), "best_of", "not supported"),
    "a suffix": (text(suffix="y"), "suffix", "not supported"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "param", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_told_what_is_wrong(
    http: httpx.Client, asked: tuple[str, bytes], param: str | None, said: str
) -> None:
    path, content = asked
    answer = http.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] == param and said in error["message"]
    assert "\n" not in error["message"] and len(error["message"]) < 400


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as raised:
        client.completions.create(model="gpt-4", prompt="x")
    assert raised.value.code == "model_not_found" and raised.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_prompt_beyond_the_context_says_so(client: openai.OpenAI, engine: AsyncEngine) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 511 fit") as raised:
        client.completions.create(model=MODEL, prompt="x " * 100_000)
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="100000 tokens"):
        client.completions.create(model=MODEL, prompt=[7] * 100_000)
    assert_all_free(engine)


def test_one_bad_prompt_of_several_leaves_nothing_behind(client: openai.OpenAI, engine: AsyncEngine) -> None:
    with pytest.raises(openai.BadRequestError, match="vocabulary"):
        client.completions.create(model=MODEL, prompt=[[1, 2], [3, 999]], max_tokens=200)
    assert_all_free(engine)


def test_paths_and_methods_that_are_not_there(http: httpx.Client) -> None:
    missing, wrong = http.get("/v1/nothing"), http.get(CHAT)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, None)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "Method Not Allowed" in wrong.json()["error"]["message"]


def test_a_body_that_is_not_json_by_name_is_refused(http: httpx.Client) -> None:
    path, content = chat()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = http.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code == 415 and answer.json()["error"]["message"]
    accepted = http.post(path, content=content, headers={"content-type": "application/json; charset=utf-8"})
    assert accepted.status_code == 200
