"""Lays the chunks of one step side by side, as a device wants them."""

from collections.abc import Sequence as Ordered
from itertools import accumulate

from kvscape.engine.devices.device import StepInput
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import HOLE, Chunk


def step_input(chunks: Ordered[Chunk], cache: PagedKVCache) -> StepInput:
    """Build the numbers of one step; its chunks must have their pages."""
    starts = [0, *accumulate(chunk.stop - chunk.start for chunk in chunks)]
    groups = range(len(cache.allocators))
    return StepInput(
        token_ids=[token for chunk in chunks for token in chunk.token_ids],
        positions=[position for chunk in chunks for position in range(chunk.start, chunk.stop)],
        query_starts=starts,
        kv_lengths=[chunk.stop for chunk in chunks],
        slots=[_slots(chunks, cache, group) for group in groups],
        page_tables=[_page_tables([chunk.sequence.page_tables[group] for chunk in chunks]) for group in groups],
        windows=cache.windows,
        tails=[chunk.sequence.tail for chunk in chunks],
        logit_rows=[
            start + position - chunk.start
            for start, chunk in zip(starts, chunks, strict=False)
            for position in chunk.logit_positions
        ],
    )


def _slots(chunks: Ordered[Chunk], cache: PagedKVCache, group: int) -> list[int]:
    return [
        slot for chunk in chunks for slot in cache.slots(chunk.sequence.page_tables[group], chunk.start, chunk.stop)
    ]


def _page_tables(tables: Ordered[list[int]]) -> list[list[int]]:
    width = max(map(len, tables))
    return [_without_holes(table) + [0] * (width - len(table)) for table in tables]


def _without_holes(table: list[int]) -> list[int]:
    """Holes are never read."""
    return [0 if page == HOLE else page for page in table] if HOLE in table else table
