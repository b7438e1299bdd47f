"""A small OpenAI-like server on a port of its own: it counts words, and misbehaves as it is told."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TEMPLATE_TOKENS = 7
_LONGEST_HOLD_S = 60.0  # so that a test that waits for nothing ends


@dataclass
class Behaviour:
    """What the server does; ``tells`` says of the number of a request what becomes of it: ok, busy, cut, error,
    malformed, 500, or hold, until ``holds`` requests are there at once."""

    tells: Callable[[int], str] = lambda number: "ok"
    retry_after: str | None = "0"
    has_usage: bool = True
    knows_ignore_eos: bool = True
    is_chunked: bool = True
    tokens_in_piece: int = 1
    key: str | None = None
    token_s: float = 0.0
    echoes: bool = True
    score: Callable[[int], Any] = lambda token: -0.01 * token
    hangs_up: bool = False
    holds: int = 1
    models: Any = field(default_factory=lambda: {"data": [{"id": "tiny"}]})
    encode: Callable[[str], list[int]] = lambda text: list(text.encode())


@dataclass
class FakeOpenAI:
    behaviour: Behaviour
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    connections: int = 0
    _running: int = 0
    _all_there: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(lines[0].split()[1], headers, body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        if self.behaviour.key is not None and headers.get("authorization") != f"bearer {self.behaviour.key}":
            return await _send(writer, 401, {"error": {"message": "no such key"}})
        if path == "/v1/models":
            return await _send(writer, 200, self.behaviour.models)
        request = json.loads(body)
        if "ignore_eos" in request and not self.behaviour.knows_ignore_eos:
            return await _send(writer, 400, {"error": {"message": "unknown field ignore_eos"}})
        self.asked.append(request)
        if request.get("echo"):
            return await self._scored(request, writer)
        tells = self.behaviour.tells(len(self.asked) - 1)
        if tells == "busy":
            return await _send(writer, 429, {"error": {"message": "too many"}}, self.behaviour.retry_after)
        if tells == "500":
            return await _send(writer, 500, {"detail": "broken"})
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        if self.most_at_once >= self.behaviour.holds:
            self._all_there.set()
        try:
            if tells == "hold":
                await asyncio.wait_for(self._all_there.wait(), _LONGEST_HOLD_S)
            return await self._stream(path.endswith("/chat/completions"), request, tells, writer)
        finally:
            self._running -= 1

    async def _scored(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        prompt, scores = request["prompt"], None
        tokens = self.behaviour.encode(prompt) if isinstance(prompt, str) else prompt
        if self.behaviour.echoes:
            scores = {"token_logprobs": [None, *map(self.behaviour.score, tokens[1:])]}
        return await _send(writer, 200, {"choices": [{"text": "", "logprobs": scores}]})

    async def _stream(self, chat: bool, request: dict[str, Any], tells: str, writer: asyncio.StreamWriter) -> bool:
        framing = "Transfer-Encoding: chunked" if self.behaviour.is_chunked else "Connection: close"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode())
        prompt, size = request["messages"][0]["content"] if chat else request["prompt"], self.behaviour.tokens_in_piece
        tokens = request["max_tokens"]
        self._event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]} if chat else {"choices": []})
        for number in range(0, tokens, size):
            if tells == "cut" and number:
                return False
            if tells == "error" and number:
                self._event(writer, {"error": {"message": "the sampler raised"}})
                break
            if tells == "malformed" and number:
                self._event(writer, [1, 2])
            text = " w" * min(size, tokens - number)
            self._event(writer, {"choices": [{"delta": {"content": text}} if chat else {"text": text}]})
            await asyncio.sleep(self.behaviour.token_s)
            await writer.drain()
        if self.behaviour.has_usage:
            usage = {"prompt_tokens": TEMPLATE_TOKENS + len(prompt.split()), "completion_tokens": tokens}
            self._event(writer, {"choices": [], "usage": usage})
        self._write(writer, b": a comment\r\ndata: [DONE]\r\n\r\n")
        if self.behaviour.is_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return self.behaviour.is_chunked and not self.behaviour.hangs_up

    def _event(self, writer: asyncio.StreamWriter, event: Any) -> None:
        """In two pieces, as a network may cut it."""
        payload = b"data: " + json.dumps(event).encode() + b"\n\n"
        self._write(writer, payload[:9])
        self._write(writer, payload[9:])

    def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if self.behaviour.is_chunked else piece)


async def _send(writer: asyncio.StreamWriter, status: int, told: Any, retry_after: str | None = None) -> bool:
    body = json.dumps(told).encode()
    retry = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
    writer.write(f"HTTP/1.1 {status} So\r\n{retry}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return True


@contextmanager
def fake_openai(behaviour: Behaviour | None = None) -> Iterator[FakeOpenAI]:
    """Serve in a thread of its own until the block ends."""
    fake, loop = FakeOpenAI(behaviour or Behaviour()), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(fake.serve, "127.0.0.1", 0))
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
