"""The engine's answers to all prompts of one request."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeAlias

from kvscape.engine.answer import Answer
from kvscape.engine.request import Output, Request
from kvscape.errors import KvscapeError
from kvscape.serve.errors import failed, of_engine, stopping
from kvscape.serve.metrics import ServeMetrics
from kvscape.serve.protocol.usage import Usage, usage

_Queue: TypeAlias = "asyncio.Queue[tuple[int, Output] | KvscapeError | None]"

_LOG = logging.getLogger(__name__)


class Answering(Protocol):
    """What answers: ``AsyncEngine``."""

    def submit(self, request: Request) -> Answer: ...


class Answers:
    """All choices of one request to the server; choice c of prompt p has index p x n + c.

    Raises ApiError where the engine refuses one of the prompts: then none is answered. A prompt of which nothing is to
    be computed has no outputs.
    """

    def __init__(self, engine: Answering, requests: Sequence[Request], metrics: ServeMetrics) -> None:
        self._prompt_tokens = sum(len(request.prompt_token_ids) for request in requests)
        self._seen: Counter[int] = Counter()  # tokens of each choice
        self._cached_tokens = 0
        self._n, self._metrics = requests[0].params.n, metrics
        self._answers: dict[int, Answer] = {}
        try:
            for prompt, request in enumerate(requests):
                if request.generates or request.prompt_logprobs:
                    self._answers[prompt] = engine.submit(request)
        except KvscapeError as error:
            self.cancel()
            raise of_engine(error) from None
        metrics.prompt_tokens.inc(self._prompt_tokens)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return usage(self._prompt_tokens, self._seen.total(), self._cached_tokens)

    def cancel(self) -> None:
        """Give up what is not answered yet; the engine frees its pages within a step."""
        for answer in self._answers.values():
            answer.cancel()

    async def outputs(self) -> AsyncIterator[tuple[int, Output]]:
        """Yield the outputs of all choices as they come; raise ApiError where one fails. Leaving cancels the rest."""
        try:
            async for prompt, output in self._merged():
                self._check(output)
                choice = prompt * self._n + output.index
                self._count(choice, output)
                yield choice, output
        except KvscapeError as error:
            raise of_engine(error) from None
        finally:
            self.cancel()

    def _check(self, output: Output) -> None:
        if output.finish_reason == "cancelled":  # by nobody but the engine, when it stops
            raise stopping()
        if output.finish_reason == "error":
            if output.error is None:
                raise failed()
            refused = of_engine(output.error)
            if refused.status_code >= 500:
                _LOG.error("a request failed: %s", output.error, exc_info=output.error)
            raise refused

    def _count(self, choice: int, output: Output) -> None:
        number = len(output.token_ids)
        if output.metrics is not None:
            self._metrics.observe_tokens(output.metrics, self._seen[choice], number)
            if output.finish_reason is not None:
                self._cached_tokens += (output.metrics.cached_tokens or 0) if output.index == 0 else 0
                self._metrics.observe_end(output.metrics)
        self._seen[choice] += number

    async def _merged(self) -> AsyncIterator[tuple[int, Output]]:
        if len(self._answers) == 1:
            ((prompt, answer),) = self._answers.items()
            async for output in answer:
                yield prompt, output
            return
        queue: _Queue = asyncio.Queue()
        readers = [asyncio.create_task(_read(*numbered, queue)) for numbered in self._answers.items()]
        try:
            for _ in readers:
                while (item := await queue.get()) is not None:
                    if isinstance(item, KvscapeError):
                        raise item
                    yield item
        finally:
            for reader in readers:
                reader.cancel()


async def _read(prompt: int, answer: Answer, queue: _Queue) -> None:
    """Put what an answer yields into a queue, and None at its end."""
    try:
        async for output in answer:
            queue.put_nowait((prompt, output))
    except KvscapeError as error:
        queue.put_nowait(error)
    else:
        queue.put_nowait(None)
