"""What must hold of the pages after every step, and in it."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from fake_device import FIRST, FakeDevice, FakeLogits, FakePools, entry, views_of

from kvscape.engine import Engine
from kvscape.engine.devices import KVPools, StepInput
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import Sequence


@dataclass
class WatchedDevice(FakeDevice):
    """Asserts that no step writes into a page that several sequences hold, or that has a name.

    All pages from the beginning of an unfinished group of keys on are written.

    ``watched`` is its engine's cache.
    """

    watched: PagedKVCache | None = None

    def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
        if self.watched is not None:
            for group, pool in enumerate(self.watched.allocators):
                written = written_pages(step, group, self.watched)
                assert {slot // self.watched.page_size for slot in step.slots[group]} <= set(written)
                assert len(set(written)) == len(written)
                for page in written:
                    assert pool.references(page) == 1 and page not in pool.named.values()
        return super().forward(step, pools)


def written_pages(step: StepInput, group: int, cache: PagedKVCache) -> list[int]:
    """Pages of the groups of keys that the step's tokens belong to."""
    pages: list[int] = []
    for sequence, table in enumerate(step.page_tables[group]):
        start, stop = step.positions[step.query_starts[sequence]], step.kv_lengths[sequence]
        first = start // cache.key_group * cache.key_group
        pages += table[first // cache.page_size : -(-stop // cache.page_size)]
    return pages


@dataclass
class PageChecks:
    """Checks an engine on a fake device; ``contents`` is what each name has stood for so far."""

    contents: dict[tuple[int, bytes], bytes] = field(default_factory=dict)

    def check(self, target: Engine) -> None:
        for group, pool in enumerate(target.cache.allocators):
            tables = [one.page_tables[group] for one in sequences(target) if one.page_tables]
            holders = Counter(page for table in tables for page in table)
            assert all(len(table) == len(set(table)) for table in tables)
            assert [pool.references(page) for page in range(pool.num_pages)] == [
                holders[page] for page in range(pool.num_pages)
            ]
            free = [*pool._free, *pool._reusable]
            assert sorted([*free, *holders]) == list(range(pool.num_pages)) and len(free) == pool.num_free
            assert set(pool._reusable) == set(pool.named.values()) - set(holders)
            self._check_names(target, group)
        check_tails(target)
        for one in sequences(target):
            check_entries(target, one)

    def _check_names(self, target: Engine, group: int) -> None:
        """A name stands for the same content for ever."""
        for name, page in target.cache.allocators[group].named.items():
            assert isinstance(target.pools, FakePools)
            content = b"".join(array[page].tobytes() for array in target.pools.pages(group))
            assert self.contents.setdefault((group, name), content) == content


def sequences(target: Engine) -> list[Sequence]:
    """All that have not ended."""
    return [one for choices in target._sequences.values() for one in choices]


def check_tails(target: Engine) -> None:
    """Assert that who has pages has a tail of its own, and nobody else has one."""
    held = [one.tail for one in sequences(target) if one.page_tables]
    assert all((one.tail >= 0) == bool(one.page_tables) for one in sequences(target))
    assert sorted([*held, *target.cache.free_tails]) == list(range(target.config.max_batch_size))


def check_entries(target: Engine, one: Sequence) -> None:
    """Assert that the cache holds what was computed of a sequence, through its page tables and its tail."""
    assert isinstance(target.pools, FakePools)
    assert one.num_computed == 0 or one.page_tables
    expected = [FIRST]
    for position, token_id in enumerate(one.token_ids[: one.num_computed]):
        expected.append(entry(token_id, position, expected[-1][2]))
    tail = {to: source for source, to in target.cache.copies.tails}.get(one.tail, one.tail)
    tables = [np.array(table, np.int32) for table in one.page_tables]
    for view in views_of(target.pools, tables, tail) if tables else ():
        assert view.entries(np.ones(one.num_computed, bool)).tolist() == [list(each) for each in expected[1:]]
