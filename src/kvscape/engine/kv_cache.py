"""Which page holds which token: one pool per layer group, one page table per sequence and layer group."""

from collections.abc import Sequence as Ordered
from itertools import repeat

from kvscape.config import Window
from kvscape.engine.copies import Copies
from kvscape.engine.page_allocator import PageAllocator
from kvscape.engine.prefix_cache import PrefixCache
from kvscape.engine.sequence import HOLE, Sequence
from kvscape.errors import CapacityError


class PagedKVCache:
    """Grows, forks and frees the page tables of sequences; the pages themselves lie on the device.

    Sequences that were forked share pages. A page that a sequence is about to write is its own: ``copies`` are to be
    made on the device before. Keys are rounded in groups of ``key_group`` tokens; those of a sequence's unfinished
    group wait in its tail, one of ``num_tails``, and all pages of that group are about to be written.
    """

    def __init__(
        self,
        num_pages: Ordered[int],
        page_size: int,
        prefix_cache: bool = False,
        windows: Ordered[Window] | None = None,
        num_tails: int = 1,
        key_group: int = 1,
    ) -> None:
        self.allocators = tuple(PageAllocator(number) for number in num_pages)
        self.prefix = PrefixCache(self.allocators, page_size, prefix_cache, key_group)
        self.windows = tuple(windows or (Window(),) * len(num_pages))
        self._windowed = [group for group, window in enumerate(self.windows) if window.limited]
        self.page_size, self.key_group = page_size, key_group
        self.free_tails = list(reversed(range(num_tails)))
        self.copies = Copies(tuple([] for _ in num_pages))

    def has_place(self, sequence: Sequence) -> bool:
        """Whether one token more goes into pages that ``sequence`` has for itself: most tokens of an answer do."""
        tables, place = sequence.page_tables, sequence.num_computed
        if len(tables[0]) * self.page_size <= place:
            return False
        first = place // self.key_group * self.key_group // self.page_size
        return not any(map(PageAllocator.shared, self.allocators, tables, repeat(first)))

    def room(self, sequence: Sequence) -> int:
        """Tokens that fit behind those that ``sequence`` has in the cache."""
        tables = sequence.page_tables or ([],) * len(self.allocators)
        pages = min(map(self._most_pages, repeat(sequence), tables, self.allocators))
        return pages * self.page_size - sequence.num_computed

    def _most_pages(self, sequence: Sequence, table: Ordered[int], pool: PageAllocator) -> int:
        return len(table) + pool.num_free - len(self._shared(sequence, table, pool))

    def admit(self, sequence: Sequence, chunk: int) -> bool:
        """Begin a waiting ``sequence`` with cached pages; False, changing nothing, if not all of it fits.

        It comes in chunks of up to ``chunk`` tokens, between which pages fall out of a window.
        """
        tables = self._seen(self.prefix.find(sequence))
        for table, pool, window in zip(tables, self.allocators, self.windows, strict=True):
            pages = window.most_pages(sequence.num_to_compute, chunk, self.page_size, self.key_group)
            held = sum(page != HOLE and pool.references(page) > 0 for page in table)  # other cached pages are free
            if pages - held > pool.num_free:
                return False
        self.prefix.take(sequence, tables)
        sequence.tail = self.free_tails.pop()
        return True

    def fork(self, parent: Sequence, sibling: Sequence) -> None:
        """Let ``sibling``, of the same tokens as ``parent``, go on from its pages."""
        for table, pool in zip(parent.page_tables, self.allocators, strict=True):
            for page in table:
                if page != HOLE:
                    pool.share(page)
        sibling.page_tables = tuple(list(table) for table in parent.page_tables)
        sibling.page_names, sibling.num_computed = list(parent.page_names), parent.num_computed
        sibling.tail = self.free_tails.pop()
        if parent.num_computed % self.key_group:
            self.copies.tails.append((parent.tail, sibling.tail))

    def _seen(self, tables: tuple[list[int], ...]) -> tuple[list[int], ...]:
        """Page tables with holes where no query behind them sees a page."""
        return tuple(
            [
                HOLE if index in self._unseen(window, len(table) * self.page_size) else page
                for index, page in enumerate(table)
            ]
            for table, window in zip(tables, self.windows, strict=True)
        )

    def _unseen(self, window: Window, position: int) -> range:
        return window.unseen_pages(position, self.page_size, self.key_group)

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give ``sequence`` pages for ``num_tokens`` in all; raise CapacityError, changing nothing, if they lack."""
        tables, pages = sequence.page_tables or tuple([] for _ in self.allocators), self._pages(num_tokens)
        shared = list(map(self._shared, repeat(sequence), tables, self.allocators))
        if sequence.page_tables and pages <= len(tables[0]) and not any(shared):
            return
        for table, pool, copied in zip(tables, self.allocators, shared, strict=True):
            if pages > len(table) + pool.num_free - len(copied):
                raise CapacityError(
                    f"no pages for {num_tokens} tokens of request {sequence.request_id!r}",
                    "the KV cache is full",
                    "raise max_total_sequence_length or lower max_batch_size",
                )
        sequence.page_tables = tables
        for table, pool, copied, copies in zip(tables, self.allocators, shared, self.copies.pages, strict=True):
            for index in copied:
                copies.append((table[index], pool.allocate()))
                pool.release(table[index])
                table[index] = copies[-1][1]
            while len(table) < pages:
                table.append(pool.allocate())

    def trim(self, sequence: Sequence) -> None:
        """Take back the pages behind those that hold computed tokens."""
        for table, pool in zip(sequence.page_tables, self.allocators, strict=True):
            while len(table) > self._pages(sequence.num_computed):
                pool.release(table.pop())

    def _shared(self, sequence: Sequence, table: Ordered[int], pool: PageAllocator) -> list[int]:
        """Where ``table`` has pages that are about to be written and that others hold too."""
        first = sequence.num_computed // self.key_group * self.key_group // self.page_size
        return pool.shared(table, first)

    def free(self, sequence: Sequence) -> None:
        """Take all pages back, the last ones first: of cached pages, they are then lost before those they follow."""
        for table, pool in zip(sequence.page_tables, self.allocators, strict=bool(sequence.page_tables)):
            for page in reversed(table):
                if page != HOLE:
                    pool.release(page)
        if sequence.tail >= 0:
            self.free_tails.append(sequence.tail)
        sequence.page_tables, sequence.tail = (), -1
        sequence.num_computed = 0

    def free_unseen(self, sequence: Sequence) -> None:
        """Take back the pages that fell out of their window; a hole stays in their place."""
        for group in self._windowed:
            table, pool = sequence.page_tables[group], self.allocators[group]
            for index in reversed(self._unseen(self.windows[group], sequence.num_computed)):
                if table[index] == HOLE:
                    break
                pool.release(table[index])
                table[index] = HOLE

    def slots(self, tables: Ordered[Ordered[int]], starts: Ordered[int], stops: Ordered[int]) -> list[int]:
        """Where the tokens from ``starts`` to ``stops`` of each page table go: page x page_size + offset."""
        size = self.page_size
        return [
            table[position // size] * size + position % size
            for table, start, stop in zip(tables, starts, stops, strict=True)
            for position in range(start, stop)
        ]

    def _pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)
