"""Which page holds which token: one pool per layer group, one page table per sequence and layer group."""

from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.config import Window
from kvscape.engine.devices.device import IntArray
from kvscape.engine.page_allocator import PageAllocator
from kvscape.engine.prefix_cache import PrefixCache
from kvscape.engine.sequence import HOLE, Sequence
from kvscape.errors import CapacityError


class PagedKVCache:
    """Grows and frees the page tables of sequences; the pages themselves lie on the device."""

    def __init__(
        self,
        num_pages: Ordered[int],
        page_size: int,
        prefix_cache: bool = False,
        windows: Ordered[Window] | None = None,
    ) -> None:
        self.allocators = tuple(PageAllocator(number) for number in num_pages)
        self.prefix = PrefixCache(self.allocators, page_size, prefix_cache)
        self.windows = tuple(windows or (Window(),) * len(num_pages))
        self.page_size = page_size

    def room(self, sequence: Sequence) -> int:
        """Tokens that fit behind those that ``sequence`` has in the cache."""
        tables = sequence.page_tables or ([],) * len(self.allocators)
        pages = min(len(table) + pool.num_free for table, pool in zip(tables, self.allocators, strict=True))
        return pages * self.page_size - sequence.num_computed

    def admit(self, sequence: Sequence, chunk: int) -> bool:
        """Begin a waiting ``sequence`` with cached pages; False, changing nothing, if not all of it fits.

        It comes in chunks of up to ``chunk`` tokens, between which pages fall out of a window.
        """
        tables = self._seen(self.prefix.find(sequence))
        for table, pool, window in zip(tables, self.allocators, self.windows, strict=True):
            pages = window.most_pages(sequence.num_to_compute, chunk, self.page_size)
            held = sum(page != HOLE and pool.references(page) > 0 for page in table)  # other cached pages are free
            if pages - held > pool.num_free:
                return False
        self.prefix.take(sequence, tables)
        return True

    def _seen(self, tables: tuple[list[int], ...]) -> tuple[list[int], ...]:
        """Page tables with holes where no query behind them sees a page."""
        return tuple(
            [
                HOLE if index in window.unseen_pages(len(table) * self.page_size, self.page_size) else page
                for index, page in enumerate(table)
            ]
            for table, window in zip(tables, self.windows, strict=True)
        )

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
        """Take all pages back, the last ones first: of cached pages, they are then lost before those they follow."""
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
