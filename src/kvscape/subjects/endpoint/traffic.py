"""When requests are sent: as soon as a client has its answer, or at times of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from kvscape.subjects.endpoint.answer import Answer

Ask = Callable[[float], Awaitable[Answer]]
"""Sends the next request; it was due so many seconds after the start."""
Now = Callable[[], float]

# A client whose request failed is not at once there again: a server that refuses, or is gone, would be run over.
_PAUSE_S = 0.1


async def closed_loop(asks: Iterator[Ask], clients: int, now: Now, end_s: float) -> list[Answer]:
    """So many clients, each of which asks again when it has its answer, until ``end_s`` or there is nothing to ask."""
    answers: list[Answer] = []

    async def client() -> None:
        while now() < end_s and (ask := next(asks, None)) is not None:
            answers.append(await ask(now()))
            if not answers[-1].is_ok:
                await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def open_loop(asks: Iterator[Ask], due_s: Sequence[float], now: Now) -> list[Answer]:
    """Requests that are sent when they are due, whatever became of those before."""
    tasks = []
    for due in due_s:
        if (wait_s := due - now()) > 0:
            await asyncio.sleep(wait_s)
        if (ask := next(asks, None)) is None:
            break
        tasks.append(asyncio.ensure_future(ask(due)))
    return list(await asyncio.gather(*tasks))
