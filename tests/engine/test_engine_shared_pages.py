"""Page tables without an engine: sequences grow, fork and leave at any time; each one's logits are its own tokens'."""

import numpy as np
import pytest
from fake_device import toy_logits
from generation import prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checks import WatchedDevice

from kvscape.config import Window
from kvscape.engine import Request, RequestMetrics
from kvscape.engine.batch import logit_rows, step_input
from kvscape.engine.copies import pairs
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import HOLE, Chunk, Sequence
from kvscape.engine.text import TextStream

TAILS, CHUNK = 4, 20
TEXTS = [prompt(0, 200), prompt(1, 200), (*prompt(0, 24), *prompt(2, 176))]
"""The third begins as the first one does and leaves it within a group of 16."""


class Cache:
    """A paged cache with its device and the sequences in it."""

    def __init__(self, key_group: int, page_size: int, pages: int, window: Window) -> None:
        self.window, self.page_size = window, page_size
        windows = [window, Window()]
        self.cache = PagedKVCache([pages, pages + 1], page_size, True, windows, TAILS, key_group)
        self.device = WatchedDevice(watched=self.cache)
        kv_dtype = "int4" if key_group > 1 else "f16"
        self.pools = self.device.allocate(kv_dtype, [pages, pages + 1], page_size, TAILS)
        self.sequences: list[Sequence] = []

    def add(self, text: tuple[int, ...]) -> None:
        one = Sequence(Request("one", text), TextStream(None, ()), RequestMetrics(0.0))
        if len(self.sequences) < TAILS and self.cache.admit(one, CHUNK):
            self.sequences.append(one)
            self.step([(one, CHUNK)])

    def fork(self, one: Sequence) -> None:
        if len(self.sequences) < TAILS and one.num_computed:
            sibling = Sequence(one.request, one.text, one.metrics)
            sibling.token_ids = list(one.token_ids)
            self.cache.fork(one, sibling)
            self.sequences.append(sibling)

    def free(self, one: Sequence) -> None:
        self.sequences.remove(one)
        self.cache.free(one)

    def append(self, wanted: list[tuple[Sequence, int]], token_id: int) -> None:
        """Give every sequence a token of its own, and compute up to so many tokens of each."""
        for number, (one, _) in enumerate(wanted):
            one.token_ids.append(2 + (token_id + number) % 38)
        self.step(wanted)

    def step(self, wanted: list[tuple[Sequence, int]]) -> None:
        chunks = []
        for one, most in wanted:
            stop = one.num_computed + min(most, one.num_pending, self.cache.room(one))
            if stop > one.num_computed:
                self.cache.grow(one, stop)
                chunks.append(Chunk(one, one.num_computed, stop))
        chunks.sort(key=lambda chunk: chunk.stop - chunk.start > 1)
        if chunks:
            self._compute(chunks)

    def _compute(self, chunks: list[Chunk]) -> None:
        copies = self.cache.copies
        self.device.copy(self.pools, [pairs(group) for group in copies.pages], pairs(copies.tails))
        copies.clear()
        step = step_input(chunks, logit_rows(chunks), self.cache)
        logits = self.device.fetch(self.device.forward(step, self.pools))
        wanted = [(chunk.sequence, position) for chunk in chunks for position in chunk.logit_positions]
        for row, (one, position) in zip(logits, wanted, strict=True):
            np.testing.assert_array_equal(row, logits_of(one.token_ids[: position + 1], self.window))
        for chunk in chunks:
            chunk.sequence.num_computed = chunk.stop
            self.cache.prefix.add(chunk.sequence, chunk.start)
            self.cache.free_unseen(chunk.sequence)

    def check(self) -> None:
        tails = [one.tail for one in self.sequences]
        assert sorted([*tails, *self.cache.free_tails]) == list(range(TAILS))
        for group, pool in enumerate(self.cache.allocators):
            held = [page for one in self.sequences for page in one.page_tables[group] if page != HOLE]
            assert [pool.references(page) for page in range(pool.num_pages)] == np.bincount(
                held, minlength=pool.num_pages
            ).tolist()
            assert pool.num_free == pool.num_pages - len(set(held))
            for one in self.sequences:
                first = one.num_computed // self.cache.key_group * self.cache.key_group // self.page_size
                assert HOLE not in one.page_tables[group][first:], "the keys of an unfinished group have their pages"


def logits_of(token_ids: list[int], window: Window) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two layer groups: one sees a window, the other all."""
    return toy_logits(token_ids, windows=(window, Window()))


ACTION = st.tuples(
    st.sampled_from(["add", "fork", "free", "append", "append", "append"]),
    st.integers(0, TAILS),
    st.integers(1, 80),
    st.sampled_from(TEXTS),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ACTION, max_size=25),
    st.sampled_from([1, 16]),
    st.sampled_from([1, 8, 16, 24, 32]),
    st.sampled_from([100, 160, 400]),
    st.sampled_from([Window(), Window(0, 3), Window(0, 12), Window(4, 20)]),
)
def test_any_order_of_add_append_fork_and_free(
    actions: list[tuple[str, int, int, tuple[int, ...]]], key_group: int, page_size: int, tokens: int, window: Window
) -> None:
    target = Cache(key_group, page_size, -(-tokens // page_size), window)
    for action, which, number, text in actions:
        if action == "add":
            target.add(text[:number])
        elif target.sequences:
            one = target.sequences[which % len(target.sequences)]
            if action == "fork":
                target.fork(one)
            elif action == "free":
                target.free(one)
            else:
                target.append([(each, 1 + number % CHUNK) for each in target.sequences], number)
        target.check()
    for one in list(target.sequences):
        target.free(one)
    target.check()
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
    assert sorted(target.cache.free_tails) == list(range(TAILS))


@pytest.mark.parametrize(
    ("page_size", "key_group", "named"), [(8, 1, 3), (8, 16, 2), (16, 16, 1), (24, 16, 0), (32, 16, 0)]
)
def test_only_whole_groups_have_names(page_size: int, key_group: int, named: int) -> None:
    target = Cache(key_group, page_size, 20, Window())
    for length in range(1, 31):
        target.add(TEXTS[0][:length])
        target.free(target.sequences[0])
    target.add(TEXTS[0][:30])
    target.step([(target.sequences[0], CHUNK)])
    target.free(target.sequences[0])
    assert [len(pool.named) for pool in target.cache.allocators] == [named, named]
    (found, _) = target.cache.prefix.find(
        Sequence(Request("x", TEXTS[0][:40]), TextStream(None, ()), RequestMetrics(0.0))
    )
    assert len(found) == named


def test_a_page_is_not_found_where_the_rest_of_its_group_differs() -> None:
    """Its keys were rounded together with those of the next page."""
    target = Cache(16, 8, 20, Window())
    for text in (TEXTS[0][:17], (*TEXTS[0][:8], *TEXTS[1][:9])):
        for _ in range(2):
            target.add(text)
            assert target.sequences[0].num_computed == 17
            target.free(target.sequences[0])
    assert [len(pool.named) for pool in target.cache.allocators] == [4, 4]


def test_a_page_that_left_its_window_is_kept_until_its_whole_group_did() -> None:
    target = Cache(16, 8, 20, Window(0, 3))
    target.add(TEXTS[0][:12])
    (one,) = target.sequences
    for length in range(13, 34):
        target.append([(one, 1)], length)
        holes = [page == HOLE for page in one.page_tables[0]]
        assert sum(holes) == (length - 2) // 16 * 2
        assert len(holes) == -(-length // 8)


def test_a_page_that_left_its_window_before_it_could_be_named_has_no_name() -> None:
    """Pages of 24 tokens are final in pairs; the first one is gone by then."""
    target = Cache(16, 24, 20, Window(0, 3))
    target.add(TEXTS[0][:20])
    (one,) = target.sequences
    for length in range(21, 50):
        target.append([(one, 1)], length)
    assert [sorted(pool.named.values()) for pool in target.cache.allocators] == [
        [one.page_tables[0][1]],
        sorted(one.page_tables[1][:2]),
    ]


def test_a_fork_of_a_fork() -> None:
    target = Cache(16, 8, 40, Window())
    target.add(TEXTS[0][:11])
    for _ in range(3):
        target.fork(target.sequences[-1])
        for length in range(3):
            target.append([(each, 1) for each in target.sequences], length)
            target.check()
    assert len(target.device.copied) > 3 and len({one.tail for one in target.sequences}) == TAILS


@pytest.mark.parametrize("lost", ["pages", "tails"])
def test_the_fake_device_notices_a_missing_copy(lost: str) -> None:
    target = Cache(16, 8, 40, Window())
    target.add(TEXTS[0][:11])
    target.fork(target.sequences[0])
    if lost == "tails":
        target.cache.copies.tails.clear()
    else:
        target.cache.grow(target.sequences[0], 12)
        target.cache.copies.pages[1].clear()
    with pytest.raises(AssertionError, match="not equal"):
        target.append([(each, 1) for each in target.sequences], 5)
