"""Who is computed when: answers first, then prompts in order of arrival; the youngest gives way."""

from fake_device import FakeDevice
from generation import engine, prompt

from kvscape.engine import Engine, Request, SamplingParams


def endless(name: str, length: int) -> Request:
    """Each name has a prompt of its own, so that no pages are shared."""
    seed = int.from_bytes(name.encode())
    return Request(name, prompt(seed, length), SamplingParams(max_tokens=1000, ignore_eos=True))


def lengths(device: FakeDevice) -> list[list[int]]:
    """Tokens of each sequence in each step."""
    return [(step.query_starts[1:] - step.query_starts[:-1]).tolist() for step in device.steps]


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
    assert sorted(device.steps[-1].kv_lengths.tolist()) == [18, 20]
    steps(target, 2)
    assert [step.kv_lengths.tolist() for step in device.steps[-2:]] == [[19], [20]]
    steps(target, 1)
    assert (running(target), waiting(target)) == (["old"], ["young"])
    assert device.steps[-1].kv_lengths.tolist() == [21]


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
