"""A server that the page can talk to, without a model: what it answers is said by the question."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from kvscape.serve.page import page_routes

METRICS = """\
# HELP kvscape_batch_size Choices that the newest step computed.
# TYPE kvscape_batch_size gauge
kvscape_batch_size 3.0
kvscape_requests_waiting 2.0
kvscape_kv_occupancy_ratio 0.25
kvscape_generated_tokens_total {tokens}
kvscape_requests_total{{path="/",status="200"}} 1.0
"""


class FakeServer:
    """Answers what ``answers`` has for a question, piece by piece, else the question; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[dict[str, Any]] = []
        self.key: str | None = None
        self.cut_off = threading.Event()  # a client went away before its answer ended
        self.tokens = 0
        self.app = FastAPI()
        self.app.include_router(page_routes())
        self.app.add_api_route("/v1/models", self._models, response_model=None)
        self.app.add_api_route("/metrics", self._metrics, response_model=None)
        self.app.add_api_route("/v1/chat/completions", self._complete, methods=["POST"], response_model=None)

    def _refused(self, request: Request) -> bool:
        given = request.headers.get("Authorization", "").encode("latin-1")
        return self.key is not None and given != f"Bearer {self.key}".encode()

    async def _models(self, request: Request) -> Response:
        return _error(401, "no API key") if self._refused(request) else JSONResponse({"data": [{"id": "fake"}]})

    async def _metrics(self, request: Request) -> Response:
        self.tokens += 100
        return (
            _error(401, "no API key")
            if self._refused(request)
            else PlainTextResponse(METRICS.format(tokens=self.tokens))
        )

    async def _complete(self, request: Request) -> Response:
        if self._refused(request):
            return _error(401, "no API key")
        body = await request.json()
        self.asked.append(body)
        question = body["messages"][-1]["content"]
        if question == "too much":
            return _error(429, "the queue is full", {"Retry-After": "7"})
        return StreamingResponse(self._events(question), media_type="text/event-stream")

    async def _events(self, question: str) -> AsyncIterator[bytes]:
        try:
            for piece in self.answers.get(question, [question]):
                yield _event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            if question == "fail":
                yield _event({"error": {"message": "the step failed"}})
                return
            if question == "for ever":
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cut_off.set()
            raise
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        yield _event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}})
        yield b"data: [DONE]\n\n"


def _event(said: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message}}, status, headers)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve on a free port of loopback; yield the address."""
    listener = socket.create_server(("127.0.0.1", 0))  # who comes before the server has started waits here
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
