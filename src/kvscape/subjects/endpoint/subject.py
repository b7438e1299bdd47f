"""An OpenAI-compatible server as a subject: it is asked over HTTP, and what runs behind it is not known."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil, inf
from pathlib import Path

from kvscape.analysis.arrivals import poisson_times_s
from kvscape.config import DesignPoint, Workload
from kvscape.errors import ConfigError, EndpointError
from kvscape.subjects.endpoint.answer import Answer
from kvscape.subjects.endpoint.client import API_KEY, Client, served_model
from kvscape.subjects.endpoint.lengths import Length, lengths
from kvscape.subjects.endpoint.traffic import Ask, closed_loop, open_loop
from kvscape.subjects.endpoint.words import WordCount, make_text

# Words of the two prompts that tell how a server counts.
_FEW, _MANY = 4, 24
_REQUESTS_OF_A_CLIENT = 10
# Of requests in a given time: no more than this many standard deviations above what is expected.
_DEVIATIONS = 6


def load_endpoint(point: DesignPoint, jit: str = "on", model_lib: Path | None = None) -> "EndpointSubject":
    """Ask the server which model it has, and see how it counts; raise EndpointError where it does not answer."""
    if model_lib is not None:
        raise ConfigError("an endpoint has no model_lib", "the server has its own", "leave --model-lib out")
    return EndpointSubject(point, served_model(point), os.environ.get(API_KEY))


class EndpointSubject:
    """A server that answers. ``counts_words`` says how long its prompts are made, ``ignores_eos`` whether it goes on to
    the wanted length whatever the model says, ``has_usage`` whether it counts tokens."""

    def __init__(self, point: DesignPoint, model: str, api_key: str | None) -> None:
        self._point, self._workload = point, point.workload
        self.served_model = model
        self._client = Client(point.server, model, api_key)
        self.counts_words, self.has_usage = asyncio.run(self._probe())

    @property
    def ignores_eos(self) -> bool:
        return bool(self._client.extra)

    @property
    def build_key(self) -> str:
        return f"{self._point.server.endpoint} {self.served_model}"

    async def _probe(self) -> tuple[WordCount, bool]:
        """How many tokens a few words and many words are."""
        few = await self._short_answer(_FEW)
        if not few.is_ok and self._client.extra and few.status in ("400", "422"):
            self._client.extra = {}  # it knows no ignore_eos
            few = await self._short_answer(_FEW)
        if not few.is_ok:
            self._client.server.close()
            why = few.reason or few.status
            raise EndpointError(f"the endpoint gave {few.status}", why, "correct the endpoint's flags")
        many = await self._short_answer(_MANY)
        self._client.server.close()
        if few.prompt_tokens is None or many.prompt_tokens is None:
            return WordCount(), few.usage_tokens is not None
        return WordCount.of((_FEW, few.prompt_tokens), (_MANY, many.prompt_tokens)), True

    async def _short_answer(self, words: int) -> Answer:
        start = time.perf_counter()
        return await self._client.ask(make_text(words, (words,)), 2, 0.0, lambda: time.perf_counter() - start)

    def answers(self, run: int, advance: Callable[[], None] | None = None) -> list[Answer]:
        """Run the workload once; all answers, in the order in which they were due."""
        return sorted(asyncio.run(self._run(run, advance)), key=lambda answer: answer.asked_s)

    async def _run(self, run: int, advance: Callable[[], None] | None) -> list[Answer]:
        start, work = time.perf_counter(), self._workload

        def now() -> float:
            return time.perf_counter() - start

        asks = self._asks(run, now, advance)
        try:
            if work.request_rate is None:
                return await closed_loop(asks, work.concurrency or 1, now, work.duration_s or inf)
            return await open_loop(asks, _due_s(work, work.request_rate), now)
        finally:
            self._client.server.close()

    def _asks(self, run: int, now: Callable[[], float], advance: Callable[[], None] | None) -> Iterator[Ask]:
        for number, length in zip(_numbers(self._workload), lengths(self._workload, run), strict=False):
            text = length.text or self._text(length, (self._workload.seed, run, number))
            yield partial(self._ask, text, length, now, advance)

    def _text(self, length: Length, seed: tuple[int, ...]) -> str:
        return make_text(self.counts_words.words(length.prompt_tokens), seed)

    async def _ask(
        self, text: str, length: Length, now: Callable[[], float], advance: Callable[[], None] | None, due_s: float
    ) -> Answer:
        answer = await self._client.ask(text, length.output_tokens, due_s, now)
        if advance is not None:
            advance()
        return answer

    def close(self) -> None:
        """Every run has closed its own connections."""


def _numbers(work: Workload) -> Iterator[int]:
    """0, 1, 2 and so on: as many as there are requests."""
    most = work.num_requests
    if most is None and work.duration_s is None:
        most = _REQUESTS_OF_A_CLIENT * (work.concurrency or 1)
    number = 0
    while most is None or number < most:
        yield number
        number += 1


def _due_s(work: Workload, rate: float) -> list[float]:
    """When requests come, at most ``num_requests`` of them and none after ``duration_s``."""
    expected = rate * (work.duration_s or 0.0)
    most = work.num_requests or ceil(expected + _DEVIATIONS * max(expected, 1.0) ** 0.5)
    return [due for due in poisson_times_s(rate, most, work.seed) if due < (work.duration_s or inf)]
