"""n answers to one prompt: each one is what its seed alone gives, the prompt is computed once, pages are shared."""

from dataclasses import replace
from functools import cache

import pytest
from fake_device import FakeDevice
from generation import engine, expected_greedy, generate, prompt, run, run_choices, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checks import PageChecks, WatchedDevice, sequences

from kvscape.engine import Engine, Request, SamplingParams

LENGTHS = [1, 7, 16, 20, 33]
PROMPTS = [prompt(seed, length) for seed, length in enumerate(LENGTHS)]
GREEDY = SamplingParams(max_tokens=24, n=4)
SAMPLED = SamplingParams(max_tokens=24, temperature=1.2, top_k=20, seed=7, repetition_penalty=1.2, n=4)
ENDLESS = SamplingParams(max_tokens=1000, temperature=1.0, ignore_eos=True, n=4)
KEY_GROUPS = pytest.mark.parametrize("kv_dtype", ["f16", "int4"])
"""Keys rounded one by one, and in groups of 16."""


@cache
def alone(one: tuple[int, ...], params: SamplingParams) -> list[int]:
    return tokens(generate(engine(prefix_cache=False), one, params))


def separately(params: SamplingParams) -> dict[str, list[list[int]]]:
    """One request for each choice."""
    single = [replace(params, n=1, seed=params.seed + index) for index in range(params.n)]
    return {str(index): [alone(one, each) for each in single] for index, one in enumerate(PROMPTS)}


def requests(params: SamplingParams) -> list[Request]:
    return [Request(str(index), one, params) for index, one in enumerate(PROMPTS)]


def watched(**knobs: object) -> tuple[Engine, WatchedDevice]:
    device = WatchedDevice()
    target = engine(device, **knobs)
    device.watched = target.cache
    return target, device


def start(target: Engine, length: int, params: SamplingParams = ENDLESS, steps: int = 1) -> None:
    target.add(Request("one", prompt(5, length), params))
    for _ in range(steps):
        target.step()


def test_the_expected_answers_are_worth_comparing() -> None:
    answers = [tuple(answer) for each in separately(SAMPLED).values() for answer in each]
    assert len(set(answers)) == 4 * len(PROMPTS) and sum(map(len, answers)) > 300
    assert separately(GREEDY) == {str(i): [expected_greedy(one, 24)] * 4 for i, one in enumerate(PROMPTS)}


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("page_size", [8, 16, 32])
@KEY_GROUPS
def test_choices_are_what_their_seeds_give_alone(batch: int, page_size: int, kv_dtype: str) -> None:
    for params in (GREEDY, SAMPLED):
        target, _ = watched(max_batch_size=batch, page_size=page_size, prefill_chunk_size=16, kv_dtype=kv_dtype)
        assert run_choices(target, requests(params)) == separately(params)
        assert target.metrics.finished_requests == len(PROMPTS)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 5),
    chunk=st.sampled_from([1, 7, 16, 512]),
    page_size=st.sampled_from([1, 4, 8, 16, 24, 32]),
    pool=st.sampled_from([60, 80, 1000]),
    prefix_cache=st.booleans(),
    kv_dtype=st.sampled_from(["f16", "int4"]),
    params=st.sampled_from([GREEDY, SAMPLED]),
)
def test_no_way_to_cut_the_work_changes_a_choice(
    batch: int, chunk: int, page_size: int, pool: int, prefix_cache: bool, kv_dtype: str, params: SamplingParams
) -> None:
    target, _ = watched(
        max_batch_size=batch,
        prefill_chunk_size=chunk,
        page_size=page_size,
        max_total_sequence_length=pool,
        prefix_cache=prefix_cache,
        kv_dtype=kv_dtype,
    )
    checks, some = PageChecks(), requests(params)[1::2]
    for _ in range(2):  # the second round finds the first one's pages
        for request in some:
            target.add(request)
        got: dict[str, dict[int, list[int]]] = {}
        while target.has_work:
            for output in target.step():
                got.setdefault(output.request_id, {}).setdefault(output.index, []).extend(output.token_ids)
            checks.check(target)
        expected = separately(params)
        assert {name: [each[index] for index in range(4)] for name, each in got.items()} == {
            one.request_id: expected[one.request_id] for one in some
        }
    assert all(one.num_free == one.num_pages for one in target.cache.allocators)


def test_crowded_choices_are_preempted() -> None:
    target, device = watched(max_batch_size=4, page_size=8, max_total_sequence_length=96, kv_dtype="int4")
    assert run_choices(target, requests(SAMPLED)) == separately(SAMPLED)
    assert target.metrics.preemptions > 3 and any(tails for _, tails in device.copied)


@pytest.mark.parametrize(
    ("kv_dtype", "page_size", "length", "pages", "tails"),
    [
        ("f16", 8, 20, 1, 0),
        ("f16", 8, 24, 0, 0),
        ("f16", 32, 32, 0, 0),
        ("int4", 8, 20, 1, 1),
        ("int4", 8, 24, 1, 1),
        ("int4", 8, 27, 2, 1),
        ("int4", 8, 32, 0, 0),
        ("int4", 32, 16, 1, 0),
        ("int4", 32, 32, 0, 0),
    ],
)
def test_the_prompt_is_computed_once_and_only_what_is_written_is_copied(
    kv_dtype: str, page_size: int, length: int, pages: int, tails: int
) -> None:
    target, device = watched(max_batch_size=4, page_size=page_size, kv_dtype=kv_dtype)
    start(target, length, steps=3)
    assert [len(step.token_ids) for step in device.steps] == [length, 4, 4]
    copied = [([len(group) for group in groups], len(places)) for groups, places in device.copied]
    assert copied == ([([3 * pages] * 2, 3 * tails)] if pages else [])
    shared = -(-length // page_size) - pages
    for pool in target.cache.allocators:
        assert sum(pool.references(page) == 4 for page in range(pool.num_pages)) == shared


def test_the_last_of_the_choices_writes_in_place() -> None:
    """Three copies for four sequences: the page itself is written by the one that is left with it."""
    target, _ = watched(max_batch_size=4, page_size=8)
    start(target, 20)
    (before,) = {one.page_tables[0][-1] for one in sequences(target)}
    target.step()
    after = [one.page_tables[0][-1] for one in sequences(target)]
    assert after.count(before) == 1 and len(set(after)) == 4


def test_a_choice_without_a_place_waits_before_those_who_came_later() -> None:
    target, device = watched(max_batch_size=2)
    start(target, 20, steps=0)
    target.add(Request("later", prompt(1, 9), ENDLESS))
    target.step()
    target.step()

    def named(queue: list[object]) -> list[tuple[str, int]]:
        return [(one.request_id, one.index) for one in queue]  # type: ignore[attr-defined]

    assert named([*target._scheduler.running]) == [("one", 0), ("later", 0)]
    assert named([*target._scheduler.waiting]) == [("one", number) for number in (1, 2, 3)] + [
        ("later", number) for number in (1, 2, 3)
    ]
    assert not device.copied


@KEY_GROUPS
def test_cancel_ends_all_choices(kv_dtype: str) -> None:
    for steps in (0, 1, 2, 9):
        for batch in (1, 3, 5):
            target, _ = watched(max_batch_size=batch, page_size=8, prefill_chunk_size=16, kv_dtype=kv_dtype)
            target.add(Request("other", PROMPTS[3], replace(SAMPLED, n=1)))
            start(target, 20, steps=steps)
            outputs = target.cancel("one")
            assert [(one.request_id, one.index, one.finish_reason) for one in outputs] == [
                ("one", index, "cancelled") for index in range(4)
            ]
            assert target.cancel("one") == []
            PageChecks().check(target)
            assert not any(one.request_id == "one" for one in sequences(target))
            run(target, [])
            assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_cancel_ends_only_the_choices_that_are_left() -> None:
    target, _ = watched(max_batch_size=4)
    lengths = [len(answer) for answer in separately(SAMPLED)["1"]]
    target.add(Request("one", PROMPTS[1], SAMPLED))
    for _ in range(min(lengths)):
        target.step()
    assert 0 < len(target.cancel("one")) == sum(length > min(lengths) for length in lengths) < 4
    assert target.metrics.finished_requests == 1


def test_choices_that_end_with_their_first_token() -> None:
    target, _ = watched(max_batch_size=2)
    outputs = run(target, [Request("one", PROMPTS[3], replace(SAMPLED, max_tokens=1))])["one"]
    assert [(one.index, one.finish_reason, len(one.token_ids)) for one in outputs] == [
        (index, "length", 1) for index in range(4)
    ]
    assert all(one.metrics is not None and len(one.metrics.token_times_s) == 1 for one in outputs)


def test_prompt_logprobs_come_with_the_first_choice() -> None:
    target, _ = watched(max_batch_size=3, prefill_chunk_size=7)
    outputs = run(target, [Request("one", PROMPTS[4], SAMPLED, prompt_logprobs=True)])["one"]
    scores = {one.index: one.prompt_logprobs for one in outputs if one.finish_reason}
    first = scores.pop(0)
    assert first is not None and first.tolist() == engine().score(PROMPTS[4]).tolist()
    assert list(scores.values()) == [None] * 3


def test_token_logprobs_are_each_choices_own() -> None:
    outputs = run(engine(max_batch_size=4), [Request("one", PROMPTS[4], replace(SAMPLED, logprobs=0))])["one"]
    assert [one.logprobs[0].token_id for one in outputs] == [one.token_ids[0] for one in outputs]


def test_seeds_go_round() -> None:
    last = replace(SAMPLED, seed=2**64 - 2)
    got = run_choices(engine(max_batch_size=4), [Request("one", PROMPTS[2], last)])["one"]
    assert got == [alone(PROMPTS[2], replace(last, n=1, seed=seed)) for seed in (2**64 - 2, 2**64 - 1, 0, 1)]


@KEY_GROUPS
@pytest.mark.parametrize("broken", ["greedy", "forward", "copy"])
def test_a_failed_step_changes_no_choice(kv_dtype: str, broken: str) -> None:
    """Each method fails on the first of three calls, after its work is done."""

    class Interrupted(WatchedDevice):
        calls = 0

        def _fail(self, name: str) -> None:
            self.calls += name == broken
            if name == broken and self.calls % 3 == 1:
                raise KeyboardInterrupt

        def copy(self, pools, pages, tails):  # type: ignore[no-untyped-def]
            super().copy(pools, pages, tails)
            self._fail("copy")

        def forward(self, step, pools):  # type: ignore[no-untyped-def]
            logits = super().forward(step, pools)
            self._fail("forward")
            return logits

        def greedy(self, logits):  # type: ignore[no-untyped-def]
            self._fail("greedy")
            return super().greedy(logits)

    device = Interrupted()
    target = engine(device, max_batch_size=3, page_size=8, prefill_chunk_size=16, kv_dtype=kv_dtype)
    device.watched = target.cache
    got: dict[str, dict[int, list[int]]] = {}
    for request in requests(GREEDY):
        target.add(request)
    while target.has_work:
        try:
            for output in target.step():
                got.setdefault(output.request_id, {}).setdefault(output.index, []).extend(output.token_ids)
        except KeyboardInterrupt:
            PageChecks().check(target)
    assert {name: [each[index] for index in range(4)] for name, each in got.items()} == separately(GREEDY)
    assert device.calls > 0


def test_one_choice_copies_nothing() -> None:
    device = FakeDevice()
    run(engine(device, max_batch_size=3, page_size=8), requests(replace(SAMPLED, n=1)))
    assert not device.copied
