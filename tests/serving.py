"""Real servers, in threads of this process."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from kvscape import LLM
from kvscape.engine.answer import Answer
from kvscape.engine.async_engine import AsyncEngine
from kvscape.engine.gauges import Gauges
from kvscape.engine.request import Output, Request
from kvscape.serve import ApiServer, ServedModel, ServeSettings, Service, address, bind

MODEL, ALIAS = "tiny", "an/alias"
PATIENCE_S = 120.0  # of a test that would fail


class Borrowed:
    """An engine that several servers share: it outlives each of them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @property
    def has_failed(self) -> bool:
        return self._engine.has_failed

    def submit(self, request: Request) -> Answer:
        return self._engine.submit(request)

    def gauges(self) -> Gauges:
        return self._engine.gauges()

    async def stop(self, drain_s: float = 0.0) -> None: ...


def served_model(llm: LLM) -> ServedModel:
    return ServedModel(MODEL, llm, llm.metadata.model, llm.engine.config, aliases=(ALIAS,))


def borrowing(engine: AsyncEngine, llm: LLM, settings: ServeSettings) -> Service:
    """A service of its own on an engine that others use, too."""
    return Service(Borrowed(engine), served_model(llm), settings)


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Run a server; give its URL."""
    ready = Event()
    with bind("127.0.0.1", 0) as listener:
        server = ApiServer(service, ready.set)
        thread = Thread(target=lambda: asyncio.run(server.serve([listener])))
        listener.listen(1024)
        thread.start()
        assert ready.wait(PATIENCE_S)
        try:
            yield address(listener)
        finally:
            server.stop()
            thread.join(PATIENCE_S)
    assert not thread.is_alive()


def held_steps(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> Event:
    """Let an engine compute nothing before an event."""
    go_on, step = Event(), llm.engine.step

    def held() -> list[Output]:
        assert go_on.wait(PATIENCE_S)
        return step()

    monkeypatch.setattr(llm.engine, "step", held)
    return go_on


def assert_all_free(engine: AsyncEngine) -> None:
    """No request is left, and no page is in use."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        now = engine.gauges()
        if now.running == now.waiting == now.pages_used == 0:
            return
        time.sleep(0.002)
    raise AssertionError(engine.gauges())
