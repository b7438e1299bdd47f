"""Lays the chunks of one step side by side, as a device wants them."""

from collections.abc import Sequence as Ordered
from itertools import accumulate
from typing import NamedTuple

from kvscape.engine.devices.device import StepInput
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import HOLE, Chunk, Sequence


class LogitRow(NamedTuple):
    """One row of logits, that of token ``place`` of the step: it scores ``target``, or chooses what follows."""

    sequence: Sequence
    place: int
    target: int | None

    @property
    def choosing(self) -> list[Sequence]:
        """The sequences whose next token it chooses."""
        return [self.sequence, *self.sequence.siblings] if self.target is None else []


def logit_rows(chunks: Ordered[Chunk]) -> list[LogitRow]:
    """The rows that the chunks of one step want."""
    rows: list[LogitRow] = []
    first = 0
    for chunk in chunks:
        sequence, start, stop = chunk
        for position in chunk.logit_positions:
            rows.append(LogitRow(sequence, first + position - start, sequence.token_after(position)))  # noqa: PERF401
        first += stop - start
    return rows


def step_input(chunks: Ordered[Chunk], rows: Ordered[LogitRow], cache: PagedKVCache) -> StepInput:
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
        logit_rows=[row.place for row in rows],
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
