"""Who is computed when: answers first, then prompts in order of arrival; the youngest gives way."""

from itertools import pairwise

import pytest
from fake_device import FakeDevice
from generation import engine, prompt

from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.errors import ConfigError


def endless(name: str, length: int) -> Request:
    """Each name has a prompt of its own, so that no pages are shared."""
    seed = int.from_bytes(name.encode())
    return Request(name, prompt(seed, length), SamplingParams(max_tokens=1000, ignore_eos=True))


def lengths(device: FakeDevice) -> list[list[int]]:
    """Tokens of each sequence in each step."""
    return [[stop - start for start, stop in pairwise(step.query_starts)] for step in device.steps]


def steps(target: Engine, number: int) -> None:
    for _ in range(number):
        target.step()


def running(target: Engine) -> list[str]:
    return [one.request_id for one in target._scheduler.running]


def waiting(target: Engine) -> list[str]:
    return [one.request_id for one in target._scheduler.waiting]


def test_a_long_prompt_never_stalls_a_running_answer() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=2, prefill_chunk_size=8)
    target.add(endless("first", 4))
    steps(target, 2)
    target.add(endless("long", 20))
    steps(target, 4)
    assert lengths(device) == [[4], [1], [1, 7], [1, 7], [1, 6], [1, 1]]


def test_beside_answers_prompts_come_in_smaller_chunks() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=3, prefill_chunk_size=16, mixed_chunk_size=4)
    target.add(endless("first", 20))
    steps(target, 3)
    target.add(endless("long", 6))
    target.add(endless("other", 5))
    steps(target, 4)
    assert lengths(device) == [[16], [4], [1], [1, 4], [1, 2, 2], [1, 1, 3], [1, 1, 1]]


def test_a_chunk_of_less_than_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="mixed_chunk_size = -1: it must be at least 0; use 0 for the same as"):
        EngineConfig(mixed_chunk_size=-1)


def test_short_prompts_share_a_step() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=4, prefill_chunk_size=16)
    for name, length in (("a", 6), ("b", 5), ("c", 9)):
        target.add(endless(name, length))
    steps(target, 3)
    assert lengths(device) == [[6, 5, 5], [1, 1, 4], [1, 1, 1]]


def test_single_tokens_come_first() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=2, prefill_chunk_size=8)
    target.add(endless("a", 7))
    target.add(endless("b", 5))
    steps(target, 2)
    assert lengths(device) == [[1, 7], [1, 4]]


def test_every_running_sequence_gets_a_token_even_with_a_tiny_chunk() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=3, prefill_chunk_size=1)
    for name in "abc":
        target.add(endless(name, 3))
    steps(target, 5)
    assert lengths(device) == [[1, 1, 1]] * 5


def test_no_more_than_the_batch_runs() -> None:
    target = engine(max_batch_size=2)
    for name in "abc":
        target.add(endless(name, 3))
    steps(target, 1)
    assert (running(target), waiting(target)) == (["a", "b"], ["c"])
    target.cancel("a")
    steps(target, 1)
    assert (running(target), waiting(target)) == (["b", "c"], [])


def test_a_prompt_waits_until_all_of_it_fits() -> None:
    target = engine(max_batch_size=2, max_total_sequence_length=32, page_size=4)
    target.add(endless("a", 16))
    target.add(endless("b", 20))
    target.add(endless("small", 2))
    steps(target, 1)
    assert (running(target), waiting(target)) == (["a"], ["b", "small"])


def test_the_youngest_gives_way_and_waits_at_the_front() -> None:
    target = engine(max_batch_size=3, max_total_sequence_length=32, page_size=4)
    for name in ("old", "middle", "young", "late"):
        target.add(endless(name, 8))
    steps(target, 1)
    assert (running(target), waiting(target)) == (["old", "middle", "young"], ["late"])
    while target.metrics.preemptions == 0:
        target.step()
    assert (running(target), waiting(target)) == (["old", "middle"], ["young", "late"])
    while target.metrics.preemptions < 2:
        target.step()
    assert (running(target), waiting(target)) == (["old"], ["middle", "young", "late"])


def test_a_prompt_without_room_waits_for_a_younger_answer_to_give_way() -> None:
    device = FakeDevice()
    target = engine(device, max_batch_size=2, max_total_sequence_length=40, page_size=4, prefill_chunk_size=1)
    target.add(endless("old", 30))
    steps(target, 2)
    target.add(endless("young", 5))
    steps(target, 18)
    assert sorted(device.steps[-1].kv_lengths) == [18, 20]
    steps(target, 2)
    assert [step.kv_lengths for step in device.steps[-2:]] == [[19], [20]]
    steps(target, 1)
    assert (running(target), waiting(target)) == (["old"], ["young"])
    assert device.steps[-1].kv_lengths == [21]


def test_everybody_is_served_in_a_crowded_cache() -> None:
    target = engine(max_batch_size=4, max_total_sequence_length=48, page_size=4, prefill_chunk_size=8)
    for index in range(12):
        params = SamplingParams(max_tokens=30, ignore_eos=True)
        target.add(Request(str(index), prompt(index, 4 + index % 3), params))
    finished = []
    while target.has_work:
        finished += [output.request_id for output in target.step() if output.finish_reason]
    assert finished == [str(index) for index in range(12)]
    assert target.metrics.preemptions > 3


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_stream_of_short_requests_starves_nobody(n: int, prefix_cache: bool) -> None:
    """The pool is too small for the batch. A request ends within the steps that all before it would take alone."""
    target = engine(
        max_batch_size=4,
        max_total_sequence_length=64,
        page_size=4,
        prefill_chunk_size=8,
        prefix_cache=prefix_cache,
        kv_dtype="int4",
    )
    alone = {"long": -(-44 // 8) + 20}
    target.add(Request("first", prompt(100, 4), SamplingParams(max_tokens=20, ignore_eos=True, n=n)))
    target.add(Request("long", prompt(101, 44), SamplingParams(max_tokens=20, ignore_eos=True, n=n)))
    ended: dict[str, int] = {}
    added = {"first": 0, "long": 0}
    for step in range(2000):
        if step < 200 and step % 2 == 0:
            name = str(step)
            target.add(Request(name, prompt(step, 4), SamplingParams(max_tokens=20, ignore_eos=True, n=n)))
            added[name] = step
        ended |= {output.request_id: step for output in target.step() if output.finish_reason}
        if step >= 200 and not target.has_work:
            break
    assert set(ended) == set(added) and target.metrics.preemptions > 10
    before = 0
    for name, step in added.items():
        before += n * alone.get(name, 1 + 20)
        assert ended[name] - step <= before
    assert ended["long"] < 3 * n * alone["long"], "nobody who came later went before it for long"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("pool", [72, 1000])
def test_who_decodes_gets_a_token_in_every_step_whatever_prompts_come(n: int, pool: int) -> None:
    target = engine(
        max_batch_size=4, max_total_sequence_length=pool, page_size=4, prefill_chunk_size=8, kv_dtype="int4"
    )
    params = SamplingParams(max_tokens=20, ignore_eos=True, n=n)
    for index in range(12):
        target.add(Request(str(index), prompt(index, 60 if index % 3 == 1 else 5), params))
    stalled = 0
    while target.has_work:
        decoding = [one for one in target._scheduler.running if one.num_pending == 1]
        got = {(output.request_id, output.index) for output in target.step()}
        for one in decoding:
            preempted = one in target._scheduler.waiting
            assert preempted or (one.request_id, one.index) in got
            stalled += preempted
    assert (stalled > 0) == (pool == 72)


def test_choices_are_as_old_as_their_request() -> None:
    target = engine(max_batch_size=5, max_total_sequence_length=80, page_size=4, prefill_chunk_size=32)
    for name in ("old", "young"):
        target.add(Request(name, prompt(ord(name[0]), 8), SamplingParams(max_tokens=60, ignore_eos=True, n=3)))
    steps(target, 1)
    assert [one.order for one in target._scheduler.running] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    while target.metrics.preemptions < 1:
        target.step()
    assert [one.order for one in target._scheduler.waiting] == [(1, 1), (1, 2)]


def test_choices_and_preempted_sequences_wait_in_the_order_of_their_arrival() -> None:
    target = engine(max_batch_size=3, max_total_sequence_length=48, page_size=4, prefill_chunk_size=8)
    for index in range(8):
        params = SamplingParams(max_tokens=20, ignore_eos=True, n=1 + index % 3)
        target.add(Request(str(index), prompt(index, 7), params))
    while target.has_work:
        target.step()
        for queue in (target._scheduler.running, target._scheduler.waiting):
            orders = [one.order for one in queue]
            assert orders == sorted(orders)
    assert target.metrics.preemptions > 3
