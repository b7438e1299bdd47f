"""Which page holds which token: one pool per layer group, one page table per sequence and layer group."""

from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.config import Window
from kvscape.engine.devices.device import IntArray
from kvscape.engine.page_allocator import PageAllocator
from kvscape.engine.sequence import Sequence
from kvscape.errors import CapacityError

HOLE = -1  # in a page table: no query sees the page any more


class PagedKVCache:
    """Grows and frees the page tables of sequences; the pages themselves lie on the device."""

    def __init__(self, num_pages: Ordered[int], page_size: int, windows: Ordered[Window] | None = None) -> None:
        self.allocators = tuple(PageAllocator(number) for number in num_pages)
        self.windows = tuple(windows or (Window(),) * len(num_pages))
        self.page_size = page_size

    def room(self, sequence: Sequence) -> int:
        """Tokens that fit behind those that ``sequence`` has in the cache."""
        tables = sequence.page_tables or ([],) * len(self.allocators)
        pages = min(len(table) + pool.num_free for table, pool in zip(tables, self.allocators, strict=True))
        return pages * self.page_size - sequence.num_computed

    def fits(self, sequence: Sequence, chunk: int) -> bool:
        """Whether free pages are enough for all tokens of a waiting sequence, computed in chunks."""
        busiest = [window.most_pages(sequence.num_to_compute, chunk, self.page_size) for window in self.windows]
        return all(pages <= pool.num_free for pages, pool in zip(busiest, self.allocators, strict=True))

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give ``sequence`` pages for ``num_tokens`` in all; raise CapacityError, changing nothing, if they lack."""
        if num_tokens > sequence.num_computed + self.room(sequence):
            raise CapacityError(
                f"no pages for {num_tokens} tokens of request {sequence.request_id!r}",
                "the KV cache is full",
                "raise max_total_sequence_length or lower max_batch_size",
            )
        sequence.page_tables = sequence.page_tables or tuple([] for _ in self.allocators)
        for table, pool in zip(sequence.page_tables, self.allocators, strict=True):
            table.extend(pool.allocate() for _ in range(self._pages(num_tokens) - len(table)))

    def free(self, sequence: Sequence) -> None:
        """Take all pages back: nothing of ``sequence`` is in the cache any more."""
        for table, pool in zip(sequence.page_tables, self.allocators, strict=bool(sequence.page_tables)):
            for page in reversed(table):
                if page != HOLE:
                    pool.release(page)
        sequence.page_tables = ()
        sequence.num_computed = 0

    def free_unseen(self, sequence: Sequence) -> None:
        """Take back the pages that fell out of their window; a hole stays in their place."""
        for table, pool, window in zip(sequence.page_tables, self.allocators, self.windows, strict=True):
            for index in reversed(window.unseen_pages(sequence.num_computed, self.page_size)):
                if table[index] == HOLE:
                    break
                pool.release(table[index])
                table[index] = HOLE

    def slots(self, table: Ordered[int], start: int, stop: int) -> IntArray:
        """Where the tokens ``start`` to ``stop`` go: page x page_size + offset."""
        positions = np.arange(start, stop)
        pages = np.asarray(table, np.int32)[positions // self.page_size]
        return (pages * self.page_size + positions % self.page_size).astype(np.int32)

    def _pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)
