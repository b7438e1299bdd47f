"""What must hold of the pages after every step, and in it."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from fake_device import FIRST, FakeDevice, FakeLogits, FakePools, entry

from kvscape.engine import Engine
from kvscape.engine.devices import KVPools, StepInput
from kvscape.engine.kv_cache import PagedKVCache


@dataclass
class WatchedDevice(FakeDevice):
    """Asserts that no step writes into a page that several sequences hold, or that has a name.

    ``watched`` is its engine's cache.
    """

    watched: PagedKVCache | None = None

    def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
        if self.watched is not None:
            for pool, slots in zip(self.watched.allocators, step.slots, strict=True):
                for page in np.unique(slots // self.watched.page_size).tolist():
                    assert pool.references(page) == 1 and page not in pool.named.values()
        return super().forward(step, pools)


@dataclass
class PageChecks:
    """Checks an engine on a fake device; ``contents`` is what each name has stood for so far."""

    contents: dict[tuple[int, bytes], bytes] = field(default_factory=dict)

    def check(self, target: Engine) -> None:
        for group, pool in enumerate(target.cache.allocators):
            tables = [one.page_tables[group] for one in target._sequences.values() if one.page_tables]
            holders = Counter(page for table in tables for page in table)
            assert all(len(table) == len(set(table)) for table in tables)
            assert [pool.references(page) for page in range(pool.num_pages)] == [
                holders[page] for page in range(pool.num_pages)
            ]
            free = [*pool._free, *pool._reusable]
            assert sorted([*free, *holders]) == list(range(pool.num_pages)) and len(free) == pool.num_free
            assert set(pool._reusable) == set(pool.named.values()) - set(holders)
            self._check_names(target, group)
        for one in target._sequences.values():
            check_entries(target, one.request_id)

    def _check_names(self, target: Engine, group: int) -> None:
        """A name stands for the same content for ever."""
        for name, page in target.cache.allocators[group].named.items():
            content = slots_of(target, group)[page].tobytes()
            assert self.contents.setdefault((group, name), content) == content


def slots_of(target: Engine, group: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Entries by page."""
    assert isinstance(target.pools, FakePools)
    return target.pools.slots[group].reshape(-1, target.cache.page_size, 3)


def check_entries(target: Engine, request_id: str) -> None:
    """Assert that the cache holds what was computed of a request, through its page tables."""
    one = target._sequences[request_id]
    expected = [FIRST]
    for position, token_id in enumerate(one.token_ids[: one.num_computed]):
        expected.append(entry(token_id, position, expected[-1][2]))
    assert one.num_computed == 0 or one.page_tables
    for group, table in enumerate(one.page_tables):
        held = slots_of(target, group)[table].reshape(-1, 3)[: one.num_computed]
        assert held.tolist() == [list(each) for each in expected[1:]]
