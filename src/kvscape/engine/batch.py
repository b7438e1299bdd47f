"""Lays the chunks of one step side by side, as a device wants them."""

from collections.abc import Sequence as Ordered
from itertools import accumulate, chain
from operator import sub
from typing import NamedTuple

from kvscape.engine.devices.device import StepInput
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import HOLE, Chunk, Sequence


class LogitRow(NamedTuple):
    """One row of logits, that of token ``place`` of the step: it scores ``target``, or chooses what follows.

    What follows is chosen for the sequence's siblings, too.
    """

    sequence: Sequence
    place: int
    target: int | None


def logit_rows(chunks: Ordered[Chunk]) -> list[LogitRow]:
    """The rows that the chunks of one step want."""
    rows: list[LogitRow] = []
    first = 0
    for chunk in chunks:
        sequence, start, stop = chunk
        if stop == start + 1 == len(sequence.token_ids) and not sequence.request.prompt_logprobs:  # while decoding
            rows.append(LogitRow(sequence, first, None))
        else:
            for position in chunk.logit_positions:
                rows.append(LogitRow(sequence, first + position - start, sequence.token_after(position)))  # noqa: PERF401
        first += stop - start
    return rows


def step_input(chunks: Ordered[Chunk], rows: Ordered[LogitRow], cache: PagedKVCache) -> StepInput:
    """Build the numbers of one step; its chunks must have their pages."""
    sequences, starts, stops = zip(*chunks, strict=True)
    tails, tables = zip(*[(sequence.tail, sequence.page_tables) for sequence in sequences], strict=True)
    groups = [*zip(*tables, strict=True)]
    return StepInput(
        token_ids=[*chain.from_iterable([chunk.token_ids for chunk in chunks])],
        positions=[*chain.from_iterable(map(range, starts, stops))],
        query_starts=[0, *accumulate(map(sub, stops, starts))],
        kv_lengths=[*stops],
        slots=[cache.slots(group, starts, stops) for group in groups],
        page_tables=[_page_tables(group) for group in groups],
        windows=cache.windows,
        tails=[*tails],
        logit_rows=[row.place for row in rows],
    )


def _page_tables(tables: Ordered[list[int]]) -> list[list[int]]:
    """Tables of one width; holes, and what is behind a table's end, are never read."""
    width, whole = max(map(len, tables)), []
    for table in tables:
        pages = [0 if page == HOLE else page for page in table] if HOLE in table else table
        whole.append(pages + [0] * (width - len(pages)))
    return whole
