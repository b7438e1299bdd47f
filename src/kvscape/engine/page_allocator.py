"""Hands out the pages of one KV pool."""

from kvscape.errors import CapacityError


class PageAllocator:
    """A free list with reference counts; the page freed last is used first, while it is warm."""

    def __init__(self, num_pages: int) -> None:
        self._free = list(reversed(range(num_pages)))
        self._references = [0] * num_pages

    @property
    def num_pages(self) -> int:
        return len(self._references)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def references(self, page: int) -> int:
        """How many page tables hold ``page``."""
        return self._references[page]

    def allocate(self) -> int:
        """Return a page that nobody holds; raise CapacityError when there is none."""
        if not self._free:
            raise CapacityError(
                "the KV cache is full",
                f"all {self.num_pages} pages are in use",
                "raise max_total_sequence_length or lower max_batch_size",
            )
        page = self._free.pop()
        self._references[page] = 1
        return page

    def share(self, page: int) -> None:
        """Let one more page table hold ``page``."""
        if self._references[page] == 0:
            raise ValueError(f"page {page} is free")
        self._references[page] += 1

    def release(self, page: int) -> None:
        """Let go of ``page``; it is free when its last holder lets go."""
        if self._references[page] == 0:
            raise ValueError(f"page {page} is free")
        self._references[page] -= 1
        if self._references[page] == 0:
            self._free.append(page)
