"""Hands out the pages of one KV pool, and remembers what the free ones still hold."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kvscape.errors import CapacityError


class PageAllocator:
    """A free list with reference counts; the page freed last is used first, while it is warm.

    A page that has a name keeps it, and what it holds, when its last holder lets go: it can be shared again until no
    nameless page is free. Then the named page that was freed first is used, and loses its name.
    """

    def __init__(self, num_pages: int) -> None:
        self._free = list(reversed(range(num_pages)))
        self._reusable: OrderedDict[int, None] = OrderedDict()
        self._references = [0] * num_pages
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}

    @property
    def num_pages(self) -> int:
        return len(self._references)

    @property
    def num_free(self) -> int:
        return len(self._free) + len(self._reusable)

    @property
    def named(self) -> Mapping[bytes, int]:
        """The pages that have a name, held or free, by it."""
        return MappingProxyType(self._named)

    def references(self, page: int) -> int:
        """How many page tables hold ``page``."""
        return self._references[page]

    def shared(self, table: Sequence[int], first: int) -> list[int]:
        """Where ``table``, from ``first`` on, has pages that other page tables hold, too."""
        return [index for index in range(first, len(table)) if self._references[table[index]] > 1]

    def allocate(self) -> int:
        """Return a page that nobody holds; raise CapacityError when there is none."""
        if not self.num_free:
            raise CapacityError(
                "the KV cache is full",
                f"all {self.num_pages} pages are in use",
                "raise max_total_sequence_length or lower max_batch_size",
            )
        page = self._free.pop() if self._free else self._oldest_reusable()
        self._references[page] = 1
        return page

    def name(self, page: int, name: bytes) -> None:
        """Let a held ``page`` be found by ``name``; of several pages that hold the same, the first has the name."""
        self._check_held(page)
        if name not in self._named:
            self._named[name] = page
            self._names[page] = name

    def share(self, page: int) -> None:
        """Let one more page table hold ``page``, which is held or has a name."""
        if page in self._reusable:
            del self._reusable[page]
        else:
            self._check_held(page)
        self._references[page] += 1

    def release(self, page: int) -> None:
        """Let go of ``page``; it is free when its last holder lets go."""
        self._check_held(page)
        self._references[page] -= 1
        if self._references[page] > 0:
            return
        if page in self._names:
            self._reusable[page] = None
        else:
            self._free.append(page)

    def _oldest_reusable(self) -> int:
        page, _ = self._reusable.popitem(last=False)
        del self._named[self._names.pop(page)]
        return page

    def _check_held(self, page: int) -> None:
        if self._references[page] == 0:
            raise ValueError(f"page {page} is free")
