"""Pages: none is owned twice, none is lost, whatever happens in whatever order."""

import pytest
from generation import engine, expected_greedy, prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checks import PageChecks, WatchedDevice

from kvscape.engine import Request, RequestMetrics, SamplingParams
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.sequence import Sequence
from kvscape.engine.text import TextStream
from kvscape.errors import CapacityError


def sequence(length: int = 100) -> Sequence:
    return Sequence(Request("one", (5,) * length), TextStream(None, ()), RequestMetrics(0.0))


def test_the_pool_fills_to_its_last_token_and_the_next_one_fails() -> None:
    cache, one = PagedKVCache([4, 4], page_size=8), sequence()
    for length in range(1, 33):
        cache.grow(one, length)
        one.num_computed = length
    assert cache.room(one) == 0
    with pytest.raises(CapacityError, match="no pages for 33 tokens"):
        cache.grow(one, 33)
    assert cache.room(one) == 0
    cache.free(one)
    assert cache.room(one) == 32


def test_the_smallest_pool_decides_and_a_failure_takes_nothing() -> None:
    cache, one = PagedKVCache([4, 2], page_size=8), sequence()
    assert cache.room(one) == 16
    with pytest.raises(CapacityError):
        cache.grow(one, 17)
    assert [pool.num_free for pool in cache.allocators] == [4, 2]


def test_slots_follow_the_page_table() -> None:
    slots = PagedKVCache([9], page_size=4).slots([[7, 2, 5]], [2], [10])
    assert slots == [30, 31, 8, 9, 10, 11, 20, 21]


A, B, C = (prompt(seed, 40) for seed in range(3))
TEXTS = [A, B, C, A[:8] + B[8:], A[:16] + C[16:], B[:3] + A[3:]]
"""Prompts are the beginnings of these: some share pages, some hold equal pages after different beginnings."""

ADD = st.tuples(st.just("add"), st.integers(1, 40), st.integers(0, 30), st.sampled_from(TEXTS), st.integers(1, 4))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0), st.just(A), st.just(1))
STEP = st.tuples(st.just("step"), st.integers(1, 5), st.just(0), st.just(A), st.just(1))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(ADD, CANCEL, STEP), max_size=30),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 5, 64]),
    st.sampled_from([1, 3, 8]),
    st.sampled_from([40, 64, 200]),
    st.booleans(),
    st.sampled_from(["f16", "int4"]),
)
def test_any_order_of_add_step_and_cancel_keeps_the_pages(
    actions: list[tuple[str, int, int, tuple[int, ...], int]],
    batch: int,
    chunk: int,
    page_size: int,
    pool: int,
    prefix_cache: bool,
    kv_dtype: str,
) -> None:
    device, checks = WatchedDevice(), PageChecks()
    target = engine(
        device,
        max_batch_size=batch,
        prefill_chunk_size=chunk,
        page_size=page_size,
        max_total_sequence_length=pool,
        prefix_cache=prefix_cache,
        kv_dtype=kv_dtype,
    )
    device.watched = target.cache
    prompts: dict[str, tuple[tuple[int, ...], int, int]] = {}
    answers: dict[tuple[str, int], list[int]] = {}
    cancelled: set[str] = set()

    def step() -> None:
        for output in target.step():
            answers.setdefault((output.request_id, output.index), []).extend(output.token_ids)
        checks.check(target)
        assert len(target._scheduler.running) <= batch
        if device.steps:
            assert len(device.steps[-1].token_ids) <= max(batch, chunk)

    for action, number, max_tokens, text, n in actions:
        if action == "add":
            name = str(len(prompts))
            scoring = max_tokens == 0 and number > 1
            prompts[name] = (text[:number], max_tokens, 1 if scoring else n)
            params = SamplingParams(max_tokens=max_tokens if scoring else max(max_tokens, 1), n=prompts[name][2])
            target.add(Request(name, prompts[name][0], params, prompt_logprobs=scoring))
        elif action == "cancel" and target.cancel(str(number)):
            cancelled.add(str(number))
        for _ in range(number if action == "step" else 0):
            step()
        checks.check(target)
    for _ in range(10000):
        if not target.has_work:
            break
        step()
    assert not target.has_work and not target._sequences
    assert all(free.num_free == free.num_pages for free in target.cache.allocators)
    for name, (one, max_tokens, n) in prompts.items():
        if name not in cancelled and max_tokens > 0:
            expected = expected_greedy(one, max_tokens)
            for index in range(n):
                assert answers[name, index] == expected[: pool + 1 - len(one)]
