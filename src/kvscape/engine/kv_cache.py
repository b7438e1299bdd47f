"""Which page holds which token: one pool per layer group, one page table per sequence and layer group."""

from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.engine.devices.device import IntArray
from kvscape.engine.page_allocator import PageAllocator
from kvscape.engine.prefix_cache import PrefixCache
from kvscape.engine.sequence import Sequence
from kvscape.errors import CapacityError


class PagedKVCache:
    """Grows and frees the page tables of sequences; the pages themselves lie on the device."""

    def __init__(self, num_pages: Ordered[int], page_size: int, prefix_cache: bool = False) -> None:
        self.allocators = tuple(PageAllocator(number) for number in num_pages)
        self.prefix = PrefixCache(self.allocators, page_size, prefix_cache)
        self.page_size = page_size

    def room(self, sequence: Sequence) -> int:
        """Tokens that fit behind those that ``sequence`` has in the cache."""
        tables = sequence.page_tables or ([],) * len(self.allocators)
        pages = min(len(table) + pool.num_free for table, pool in zip(tables, self.allocators, strict=True))
        return pages * self.page_size - sequence.num_computed

    def admit(self, sequence: Sequence) -> bool:
        """Begin a waiting ``sequence`` with cached pages; False, changing nothing, if not all of it fits."""
        tables = self.prefix.find(sequence)
        pages = self._pages(sequence.num_to_compute)
        for table, pool in zip(tables, self.allocators, strict=True):
            held = sum(pool.references(page) > 0 for page in table)  # the other cached pages count as free
            if pages - held > pool.num_free:
                return False
        self.prefix.take(sequence, tables)
        return True

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
                pool.release(page)
        sequence.page_tables = ()
        sequence.num_computed = 0

    def slots(self, table: Ordered[int], start: int, stop: int) -> IntArray:
        """Where the tokens ``start`` to ``stop`` go: page x page_size + offset."""
        positions = np.arange(start, stop)
        pages = np.asarray(table, np.int32)[positions // self.page_size]
        return (pages * self.page_size + positions % self.page_size).astype(np.int32)

    def _pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)
