"""Threads for what would hold the event loop: templates and tokens of long texts."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 2


class Workers:
    """Runs short work at once, for a thread costs more; long work beside the event loop, two pieces at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "kvscape-prepare")

    async def run(self, long: bool, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Return what ``work`` does."""
        if not long:
            return work(*arguments, **keywords)
        done = self._pool.submit(work, *arguments, **keywords)
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
