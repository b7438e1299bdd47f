"""Lays the chunks of one step side by side, as a device wants them."""

from collections.abc import Iterable
from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.engine.devices.device import IntArray, StepInput
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import Chunk


def step_input(chunks: Ordered[Chunk], cache: PagedKVCache) -> StepInput:
    """Build the arrays of one step; its chunks must have their pages."""
    lengths = [chunk.stop - chunk.start for chunk in chunks]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    groups = range(len(cache.allocators))
    return StepInput(
        token_ids=int32(token for chunk in chunks for token in chunk.token_ids),
        positions=int32(position for chunk in chunks for position in range(chunk.start, chunk.stop)),
        query_starts=starts,
        kv_lengths=int32(chunk.stop for chunk in chunks),
        slots=tuple(_slots(chunks, cache, group) for group in groups),
        page_tables=tuple(_page_tables([chunk.sequence.page_tables[group] for chunk in chunks]) for group in groups),
        windows=tuple(int32((window.sinks, window.recent)) for window in cache.windows),
        tails=int32(chunk.sequence.tail for chunk in chunks),
        logit_rows=int32(
            start + position - chunk.start
            for start, chunk in zip(starts.tolist(), chunks, strict=False)
            for position in chunk.logit_positions
        ),
    )


def _slots(chunks: Ordered[Chunk], cache: PagedKVCache, group: int) -> IntArray:
    return np.concatenate([cache.slots(chunk.sequence.page_tables[group], chunk.start, chunk.stop) for chunk in chunks])


def _page_tables(tables: Ordered[Ordered[int]]) -> IntArray:
    rows = np.zeros((len(tables), max(map(len, tables))), np.int32)
    for row, table in zip(rows, tables, strict=True):
        row[: len(table)] = np.maximum(table, 0)  # holes are never read
    return rows


def int32(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, np.int32)
