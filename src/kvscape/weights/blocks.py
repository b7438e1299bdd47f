"""Blocks of rows of many tensors, worked on by all cores, a few in memory at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from kvscape.analysis.cpu import default_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

_BLOCK_WEIGHTS = 1 << 20
_MOST_THREADS = 16


def blocks(rows: int, columns: int, multiple: int = 1) -> list[slice]:
    """Split ``rows`` into slices of about a million weights, each but the last a multiple of ``multiple`` rows."""
    step = max(1, _BLOCK_WEIGHTS // max(1, columns) // multiple) * multiple
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``work`` of each item in their order, from threads: numpy lets them run side by side.

    One more item than there are threads is begun before its turn, so that memory stays bounded. An error, or a
    caller that stops, ends it when those that are begun are done.
    """
    threads = min(default_threads(), _MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
