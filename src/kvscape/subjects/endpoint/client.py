"""One request after the other to an OpenAI-compatible server, each piece of the answer with its time."""

import asyncio
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from kvscape.config import DesignPoint, EndpointConfig
from kvscape.errors import ConfigError, EndpointError
from kvscape.subjects.endpoint.answer import OK, Answer
from kvscape.subjects.endpoint.event import MalformedError, error_words, read_event
from kvscape.subjects.endpoint.http import Response, Server
from kvscape.subjects.endpoint.sse import DONE, Events

API_KEY = "KVSCAPE_API_KEY"
"""The variable of the environment that has a server's key, so that no record and no list of processes does."""

Clock = Callable[[], float]

_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
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
        except MalformedError as error:
            answer.status, answer.reason = "malformed", str(error)
        except (OSError, EOFError) as error:
            answer.status = "cut" if answer.status == OK else "connection"
            answer.reason = str(error) or type(error).__name__
        answer.ended_s = now()
        return answer

    async def _try(self, message: bytes, answer: Answer, now: Clock) -> float | None:
        """Seconds after which to try again, where the server said that it is too busy and a retry is left."""
        async with self.server.answer("POST", _PATHS[self._route], message) as response:
            if response.status == 200:
                await _read(response, answer, now)
            else:
                answer.status, answer.reason = str(response.status), error_words(await response.body())
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
                _note(payload, answer, came_s)
    if not is_done and answer.status == OK:
        raise EOFError("the stream ended without [DONE]")


def _note(payload: bytes, answer: Answer, came_s: float) -> None:
    event = read_event(payload)
    if event.error is not None:
        answer.status, answer.reason = "error", event.error
    for text in event.texts:
        answer.pieces_s.append(came_s)
        answer.characters += len(text)
    if event.usage is not None:
        answer.prompt_tokens, answer.usage_tokens = event.usage


def _retry_after_s(headers: Mapping[str, str]) -> float:
    try:
        wait_s = float(headers["retry-after"])
    except (KeyError, ValueError):
        return _RETRY_AFTER_S
    return max(0.0, wait_s) if math.isfinite(wait_s) else _RETRY_AFTER_S


def key_headers(api_key: str | None) -> dict[str, str]:
    """Raise ConfigError for a key that no header can hold."""
    if not (api_key or "").isprintable():
        raise ConfigError("the API key has control characters", "no header can hold them", "give the key alone")
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def base_url(url: str | None) -> str:
    """An address with the /v1 that OpenAI's paths begin with."""
    assert url is not None
    plain = url.rstrip("/")
    return plain if plain.endswith("/v1") else f"{plain}/v1"


async def get_json(server: Server, path: str, timeout_s: float = 30.0) -> Any:
    """Raise EndpointError where there is no such answer."""
    try:
        async with asyncio.timeout(timeout_s), server.answer("GET", path) as response:
            body = await response.body()
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

    async def listed() -> Any:
        try:
            return await get_json(server, "/models")
        finally:
            server.close()

    return _first_model(asyncio.run(listed()))


def _first_model(listed: Any) -> str:
    if isinstance(listed, dict) and not listed.get("data"):
        raise EndpointError("the endpoint has no model", "its list is empty", "name one with --endpoint-model")
    try:
        name = listed["data"][0]["id"]
    except (KeyError, IndexError, TypeError):
        name = None
    if not isinstance(name, str):
        why = "it is no OpenAI-compatible server"
        raise EndpointError("GET /models gave no list of models", why, "correct --endpoint")
    return name
