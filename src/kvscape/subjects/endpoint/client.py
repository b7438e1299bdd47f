"""One request after the other to an OpenAI-compatible server, each piece of the answer with its time."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from kvscape.config import DesignPoint, EndpointConfig
from kvscape.errors import EndpointError
from kvscape.subjects.endpoint.answer import OK, Answer
from kvscape.subjects.endpoint.http import Response, Server
from kvscape.subjects.endpoint.sse import DONE, Events

API_KEY = "KVSCAPE_API_KEY"
"""The variable of the environment that has a server's key, so that no record and no list of processes does."""

Clock = Callable[[], float]

_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_REASON_CHARACTERS = 200
# Where a server that is too busy does not say when to come back.
_RETRY_AFTER_S = 1.0


class Client:
    """Talks to one endpoint; ``extra`` goes with every request that generates."""

    def __init__(self, config: EndpointConfig, model: str, api_key: str | None, timeout_s: float = 600.0) -> None:
        self.server = Server(base_url(config.endpoint), key_headers(api_key))
        self.model, self.timeout_s = model, timeout_s
        self.extra: dict[str, Any] = {"ignore_eos": True}
        self._route, self._retries = config.endpoint_route or "chat", config.endpoint_retries or 0

    async def ask(self, prompt: str, max_tokens: int, asked_s: float, now: Clock) -> Answer:
        """Stream one answer; whatever goes wrong is its status. ``now`` is seconds since the start of the run."""
        answer = Answer(asked_s, max_tokens, sent_s=now())
        message = self._message(prompt, max_tokens)
        try:
            async with asyncio.timeout(self.timeout_s):
                while (wait_s := await self._try(message, answer, now)) is not None:
                    await asyncio.sleep(wait_s)
        except TimeoutError:
            answer.status = "timeout"
        except (OSError, EOFError, ValueError) as error:
            answer.status = "cut" if answer.status == OK else "connection"
            answer.reason = str(error) or type(error).__name__
        answer.ended_s = now()
        return answer

    async def _try(self, message: bytes, answer: Answer, now: Clock) -> float | None:
        """Seconds after which to try again, where the server said that it is too busy and a retry is left."""
        response = await self.server.send("POST", _PATHS[self._route], message)
        is_whole = False
        try:
            if response.status == 200:
                await _read(response, answer, now)
            else:
                answer.status, answer.reason = str(response.status), error_words(await response.body())
            is_whole = True
        finally:
            self.server.release(response, is_whole)
        if response.status != 429 or answer.refused >= self._retries:
            return None
        answer.refused += 1
        return _retry_after_s(response.headers)

    def _message(self, prompt: str, max_tokens: int) -> bytes:
        chat = {"messages": [{"role": "user", "content": prompt}]}
        return json.dumps(
            {
                "model": self.model,
                **(chat if self._route == "chat" else {"prompt": prompt}),
                "max_tokens": max_tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
                **self.extra,
            }
        ).encode()


async def _read(response: Response, answer: Answer, now: Clock) -> None:
    """Note when each piece of text came. Raises EOFError where the stream ends before it says that it does."""
    events, is_done = Events(), False
    answer.status = OK
    async for piece in response.pieces():
        came_s = now()
        for payload in events.add(piece):
            if payload == DONE:
                is_done, answer.pieces_s = True, answer.pieces_s or [came_s]
            else:
                _note(json.loads(payload), answer, came_s)
    if not is_done and answer.status == OK:
        raise EOFError("the stream ended without [DONE]")


def _note(event: Mapping[str, Any], answer: Answer, came_s: float) -> None:
    if "error" in event:
        answer.status, answer.reason = "error", str(event["error"])[:_REASON_CHARACTERS]
    for choice in event.get("choices", ()):
        told = choice.get("delta") or choice
        if text := told.get("content") or told.get("reasoning_content") or told.get("text"):
            answer.pieces_s.append(came_s)
            answer.characters += len(text)
    if usage := event.get("usage"):
        answer.prompt_tokens, answer.usage_tokens = usage["prompt_tokens"], usage["completion_tokens"]


def error_words(body: bytes) -> str:
    """What a server says of a failure, in OpenAI's form or in any."""
    try:
        told = json.loads(body)
        message = told["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace")
    return str(message)[:_REASON_CHARACTERS]


def _retry_after_s(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return _RETRY_AFTER_S


def key_headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def base_url(url: str | None) -> str:
    """An address with the /v1 that OpenAI's paths begin with."""
    assert url is not None
    plain = url.rstrip("/")
    return plain if plain.endswith("/v1") else f"{plain}/v1"


async def get_json(server: Server, path: str, timeout_s: float = 30.0) -> Any:
    """Raise EndpointError where there is no such answer."""
    try:
        async with asyncio.timeout(timeout_s):
            response = await server.send("GET", path)
            body = await response.body()
            server.release(response, True)
    except (OSError, EOFError) as error:
        why = str(error) or f"it did not answer within {timeout_s:.0f} s"
        raise EndpointError("the endpoint does not answer", why, "start the server, or correct --endpoint") from None
    if response.status != 200:
        raise EndpointError(f"GET {path} gave {response.status}", error_words(body), "correct --endpoint or --api-key")
    try:
        return json.loads(body)
    except ValueError:
        why = "it is no OpenAI-compatible server"
        raise EndpointError(f"GET {path} gave no JSON", why, "correct --endpoint") from None


def served_model(point: DesignPoint) -> str:
    """The name that a point asks for, or that of the server's first model."""
    if point.server.endpoint_model is not None:
        return point.server.endpoint_model
    server = Server(base_url(point.server.endpoint), key_headers(os.environ.get(API_KEY)))

    async def first() -> str:
        try:
            models = (await get_json(server, "/models")).get("data", ())
        finally:
            server.close()
        if not models:
            raise EndpointError("the endpoint has no model", "its list is empty", "name one with --endpoint-model")
        return str(models[0]["id"])

    return asyncio.run(first())
