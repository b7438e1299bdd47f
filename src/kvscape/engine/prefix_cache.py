"""Finds the pages that hold a prompt's beginning already: a full page is named by all tokens up to its end."""

import hashlib
import math
from collections.abc import Sequence as Ordered
from itertools import takewhile

import numpy as np

from kvscape.engine.page_allocator import PageAllocator
from kvscape.engine.sequence import HOLE, Sequence


def page_name(previous: bytes, token_ids: Ordered[int]) -> bytes:
    """Name of a full page: a hash of the page before's name (empty for the first) and of its own tokens.

    Keys and values depend on every token up to their own; model and KV precision are those of the engine. Where keys
    are rounded together across pages, the first of these pages is named by the tokens of all, the others by none.
    """
    return hashlib.sha256(previous + np.asarray(token_ids, np.int32).tobytes()).digest()


class PrefixCache:
    """Names pages when they are full and computed, and finds them for other sequences; they are never written again.

    A page whose keys are rounded together with keys of the next one is not final before both are full: pages are named
    and found in units of whole pages and whole groups.

    ``queries`` counts the tokens that were looked up, ``hits`` those that were found; a preempted sequence's again.
    """

    def __init__(
        self, allocators: Ordered[PageAllocator], page_size: int, enabled: bool = True, key_group: int = 1
    ) -> None:
        self._allocators, self._page_size, self._enabled = allocators, page_size, enabled
        self._unit = math.lcm(page_size, key_group)
        self._unit_pages = self._unit // page_size
        self.queries = 0
        self.hits = 0

    def find(self, sequence: Sequence) -> tuple[list[int], ...]:
        """Pages of each layer group that hold the longest beginning of ``sequence`` that every group has.

        The last token is left to compute, for its logits; a prompt that is scored needs them all and finds nothing.
        """
        names = takewhile(self._everywhere, self._names(sequence)) if self._may_use(sequence) else ()
        known = self._whole_units(list(names))
        return tuple([pool.named[name] for name in known] for pool in self._allocators)

    def take(self, sequence: Sequence, tables: tuple[list[int], ...]) -> None:
        """Let a waiting ``sequence`` begin with the pages that were found for it."""
        for table, pool in zip(tables, self._allocators, strict=True):
            for page in table:
                if page != HOLE:
                    pool.share(page)
        sequence.page_tables = tables
        sequence.num_computed = len(tables[0]) * self._page_size
        if sequence.metrics.cached_tokens is None:
            sequence.metrics.cached_tokens = sequence.num_computed
        if self._may_use(sequence):
            self.queries += sequence.num_to_compute
            self.hits += sequence.num_computed

    def add(self, sequence: Sequence, start: int) -> None:
        """Name the pages of ``sequence`` that the tokens from ``start`` on, now computed, have filled."""
        if not self._enabled or start // self._unit == sequence.num_computed // self._unit:
            return
        filled = range(self._pages(start), self._pages(sequence.num_computed))
        self._extend_names(sequence, filled.stop)
        for table, pool in zip(sequence.page_tables, self._allocators, strict=True):
            for index in filled:
                if table[index] != HOLE:  # fell out of its window before the unit was complete
                    pool.name(table[index], sequence.page_names[index])

    def _may_use(self, sequence: Sequence) -> bool:
        return self._enabled and not sequence.request.prompt_logprobs

    def _everywhere(self, name: bytes) -> bool:
        return all(name in pool.named for pool in self._allocators)

    def _names(self, sequence: Sequence) -> list[bytes]:
        number = self._pages(sequence.num_to_compute - 1)
        self._extend_names(sequence, number)
        return sequence.page_names[:number]

    def _extend_names(self, sequence: Sequence, number: int) -> None:
        """Name the first ``number`` pages; tokens are only ever appended, so that a page keeps its name."""
        names, size = sequence.page_names, self._page_size
        for index in range(len(names), number):
            tokens = sequence.token_ids[index * size : index * size + self._unit]
            previous = names[-1] if names else b""
            names.append(page_name(previous, () if index % self._unit_pages else tokens))

    def _pages(self, num_tokens: int) -> int:
        """Pages of the whole units of ``num_tokens``."""
        return num_tokens // self._unit * self._unit_pages

    def _whole_units(self, names: list[bytes]) -> list[bytes]:
        return names[: len(names) // self._unit_pages * self._unit_pages]
