"""Fixtures: one tiny model, one engine thread and one server for all tests of the server in a process.

What they need is imported when they are asked for: other tests shall not wait for it.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import openai

    from kvscape import LLM
    from kvscape.engine.async_engine import AsyncEngine
    from kvscape.serve import Service


@pytest.fixture(scope="session")
def open_tiny(open_llm: "Callable[..., LLM]", long_gguf: Path) -> "Callable[[], LLM]":
    """The tiny model, opened once more."""
    return lambda: open_llm(long_gguf, context_window_size=512, max_batch_size=8, kv_dtype="f16")


@pytest.fixture(scope="session")
def tiny_llm(open_tiny: "Callable[[], LLM]") -> "Iterator[LLM]":
    """What is served."""
    with open_tiny() as llm:
        yield llm


@pytest.fixture(scope="session")
def reference_llm(open_tiny: "Callable[[], LLM]") -> "Iterator[LLM]":
    """The same model, to say what the server must answer."""
    with open_tiny() as llm:
        yield llm


@pytest.fixture(scope="session")
def engine(tiny_llm: "LLM") -> "Iterator[AsyncEngine]":
    """The engine's thread."""
    from kvscape.engine.async_engine import AsyncEngine

    running = AsyncEngine(tiny_llm.engine)
    yield running
    asyncio.run(running.stop())


@pytest.fixture(scope="session")
def service(engine: "AsyncEngine", tiny_llm: "LLM") -> "Service":
    from kvscape.serve import ServeSettings
    from serving import borrowing

    return borrowing(engine, tiny_llm, ServeSettings())


@pytest.fixture(scope="session")
def url(service: "Service") -> Iterator[str]:
    """Where the server is."""
    from serving import serving

    with serving(service) as running:
        yield running


@pytest.fixture(scope="session")
def client(url: str) -> "Iterator[openai.OpenAI]":
    """OpenAI's own client."""
    import openai

    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made
