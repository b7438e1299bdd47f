"""Clients that go away, read slowly, ask for too much or break things: all pages are free afterwards."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from kvscape import LLM
from kvscape.engine.async_engine import AsyncEngine
from kvscape.serve import ServeSettings
from serving import MODEL, PATIENCE_S, assert_all_free, borrowing, held_steps, serving

LONG = {"model": MODEL, "prompt": "the thing", "max_tokens": 400, "ignore_eos": True, "temperature": 0}


def request_bytes(body: dict[str, Any], path: str = "/v1/completions") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def still_answers(client: openai.OpenAI) -> bool:
    return client.completions.create(model=MODEL, prompt="x", max_tokens=2).usage is not None


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as connection:
        yield connection


def test_a_thousand_clients_are_cut_in_the_middle_of_a_stream(
    url: str, client: openai.OpenAI, engine: AsyncEngine
) -> None:
    parts, asked = urlsplit(url), request_bytes({**LONG, "stream": True})

    async def cut(gate: asyncio.Semaphore, number: int) -> bytes:
        async with gate:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(asked)
            seen = await reader.readuntil(b"data:") if number % 3 else await reader.readuntil(b"\r\n")
            writer.transport.abort() if number % 2 else writer.close()
            return seen

    async def cut_all() -> list[bytes]:
        gate = asyncio.Semaphore(32)
        return await asyncio.gather(*(cut(gate, number) for number in range(1000)))

    assert all(b"200 OK" in seen for seen in asyncio.run(cut_all()))
    assert_all_free(engine)
    assert still_answers(client)


def test_a_client_that_does_not_wait_for_its_answer_frees_its_pages(
    url: str, client: openai.OpenAI, engine: AsyncEngine
) -> None:
    for _ in range(5):
        generated = engine.gauges().metrics.generated_tokens
        with connected(url) as connection:
            connection.sendall(request_bytes({**LONG, "n": 8}))
            wait_until(lambda: engine.gauges().metrics.generated_tokens > generated)  # noqa: B023
        assert_all_free(engine)
    assert still_answers(client)


def wait_until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_a_client_that_never_reads_delays_nobody(url: str, client: openai.OpenAI, engine: AsyncEngine) -> None:
    with connected(url) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        lazy.sendall(request_bytes({**LONG, "stream": True, "n": 8, "logprobs": 20}))
        assert still_answers(client)
        assert_all_free(engine)  # its answer is done, though nobody has read it
    assert still_answers(client)


def test_a_request_that_comes_in_pieces_is_one(url: str) -> None:
    asked = request_bytes({"model": MODEL, "prompt": "x", "max_tokens": 1})
    with connected(url) as connection:
        for start in range(0, len(asked), 20):
            connection.sendall(asked[start : start + 20])
        assert b"200 OK" in connection.recv(100)


def test_half_a_request_is_forgotten(url: str, client: openai.OpenAI) -> None:
    for end in (5, 60, -3):
        with connected(url) as connection:
            connection.sendall(request_bytes(LONG)[:end])
    assert still_answers(client)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_is_given_up(engine: AsyncEngine, tiny_llm: LLM, stream: bool) -> None:
    asked = {**LONG, "n": 64, "stream": stream}
    with serving(borrowing(engine, tiny_llm, ServeSettings(request_timeout_s=0.05))) as url:
        answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=PATIENCE_S)
        counted = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    error = json.loads(answer.text.rstrip().rpartition("data: ")[2])["error"]
    assert error["code"] == "request_timeout" and "0.05 s" in error["message"]
    assert answer.status_code == (200 if stream else 408) and "[DONE]" not in answer.text
    assert 'kvscape_requests_total{path="/v1/completions",status="408"} 1.0' in counted
    assert_all_free(engine)


def test_too_many_are_told_to_come_back(open_tiny: Callable[[], LLM], monkeypatch: pytest.MonkeyPatch) -> None:
    with open_tiny() as llm:
        go_on = held_steps(llm, monkeypatch)
        engine = AsyncEngine(llm.engine, max_waiting=0)
        with serving(borrowing(engine, llm, ServeSettings())) as url, connected(url) as busy:
            busy.sendall(request_bytes({**LONG, "n": 8, "stream": True}))
            wait_until(lambda: engine.gauges().waiting > 0)
            answer = httpx.post(f"{url}/v1/completions", json=LONG, timeout=PATIENCE_S)
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
            go_on.set()
        asyncio.run(engine.stop())


def test_a_poisoned_request_fails_alone(
    url: str, client: openai.OpenAI, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    for stream in (False, True):
        answer = httpx.post(
            f"{url}/v1/completions", json={**LONG, "temperature": 0.123, "stream": stream}, timeout=PATIENCE_S
        )
        assert answer.status_code == (200 if stream else 500) and "secret" not in answer.text
        assert json.loads(answer.text.rstrip().rpartition("data: ")[2])["error"]["type"] == "server_error"
        assert still_answers(client)
    assert_all_free(engine)


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sampler raise for one temperature."""
    from kvscape.engine import model_runner
    from kvscape.engine.sampler import wanted_draw

    def poisoned(row: int, sequence: Any, ahead: int) -> Any:
        if sequence.request.params.temperature == 0.123:
            raise ZeroDivisionError("a secret")
        return wanted_draw(row, sequence, ahead)

    monkeypatch.setattr(model_runner, "wanted_draw", poisoned)


def test_a_server_whose_engine_failed_is_not_healthy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncEngine, "has_failed", True)
    answer = httpx.get(f"{url}/health", timeout=PATIENCE_S)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "the engine failed; start the server again"


def test_the_server_goes_on_while_a_long_prompt_is_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvscape.serve import completion_plan, routes_openai

    reading, go_on = Event(), Event()

    def slow(*arguments: Any) -> Any:
        reading.set()
        assert go_on.wait(PATIENCE_S)
        return completion_plan.plan_completion(*arguments)

    monkeypatch.setattr(routes_openai, "plan_completion", slow)
    with ThreadPoolExecutor() as pool:
        long = pool.submit(
            httpx.post, f"{url}/v1/completions", json={**LONG, "prompt": "x " * 50_000}, timeout=PATIENCE_S
        )
        assert reading.wait(PATIENCE_S)
        assert httpx.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200
        go_on.set()
        assert long.result(PATIENCE_S).status_code == 400
