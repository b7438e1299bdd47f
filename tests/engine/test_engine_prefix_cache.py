"""What was computed is found again: whole pages, from the beginning, never a wrong one, never one in the making."""

import pytest
from fake_device import FakeDevice
from generation import engine, expected_greedy, generate, prompt, run, tokens
from page_checks import PageChecks, WatchedDevice

from kvscape.engine import Engine, Request, RequestMetrics, SamplingParams
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.prefix_cache import page_name
from kvscape.engine.sequence import Sequence
from kvscape.engine.text import TextStream

SHORT = SamplingParams(max_tokens=3, ignore_eos=True)


def computed(device: FakeDevice) -> list[int]:
    """Tokens of each step."""
    return [len(step.token_ids) for step in device.steps]


def counted(target: Engine) -> tuple[int, int]:
    return target.metrics.prefix_cache_queries, target.metrics.prefix_cache_hits


@pytest.mark.parametrize(("length", "left"), [(3, 3), (4, 4), (5, 1), (8, 4), (9, 1), (11, 3)])
def test_a_second_prompt_computes_what_is_left_and_at_least_its_last_token(length: int, left: int) -> None:
    device = FakeDevice()
    target = engine(device, page_size=4)
    first, second = (generate(target, prompt(0, length), SHORT) for _ in range(2))
    assert tokens(first) == tokens(second)
    assert computed(device) == [length, 1, 1, left, 1, 1]
    assert counted(target) == (2 * length, length - left)
    assert target.metrics.prefix_cache_hit_rate == (length - left) / (2 * length)


def test_without_the_cache_nothing_is_looked_up() -> None:
    device = FakeDevice()
    target = engine(device, page_size=4, prefix_cache=False)
    for _ in range(2):
        generate(target, prompt(0, 9), SHORT)
    assert computed(device) == [9, 1, 1, 9, 1, 1]
    assert counted(target) == (0, 0) and target.metrics.prefix_cache_hit_rate is None


def test_a_prompt_is_reused_up_to_where_it_differs() -> None:
    device, one = FakeDevice(), prompt(0, 40)
    target = engine(device, page_size=4)
    generate(target, one, SHORT)
    other = (*one[:18], *prompt(1, 22))
    assert tokens(generate(target, other, SamplingParams(max_tokens=20))) == expected_greedy(other, 20)
    assert counted(target) == (80, 16)


def test_equal_pages_after_different_beginnings_are_different_pages() -> None:
    first, second = prompt(0, 40), prompt(1, 40)
    mixed = (*first[:8], *second[8:])
    target = engine(page_size=4)
    for one in (first, second, mixed):
        assert tokens(generate(target, one, SamplingParams(max_tokens=20))) == expected_greedy(one, 20)
    assert counted(target) == (120, 8)
    assert page_name(page_name(b"", first[:4]), second[:4]) != page_name(page_name(b"", second[:4]), second[:4])
    assert page_name(b"", first[:4]) != page_name(b"", first[:4][::-1])


def test_pages_that_an_answer_filled_are_found_too() -> None:
    device, one = FakeDevice(), prompt(0, 6)
    target = engine(device, page_size=4)
    answer = tokens(generate(target, one, SamplingParams(max_tokens=11, ignore_eos=True)))
    longer = (*one, *answer, *prompt(1, 3))
    device.steps.clear()
    assert tokens(generate(target, longer, SamplingParams(max_tokens=20))) == expected_greedy(longer, 20)
    assert computed(device)[0] == 4, "16 of 20 tokens: the answer's last one was never computed"


def test_a_page_in_the_making_is_not_shared() -> None:
    device = FakeDevice()
    target = engine(device, page_size=4, max_batch_size=2, prefill_chunk_size=32)
    outputs = run(target, [Request(name, prompt(0, 9), SHORT) for name in "ab"])
    assert computed(device) == [18, 2, 2] and tokens(outputs["a"]) == tokens(outputs["b"])
    assert all(len(pool.named) == 2 for pool in target.cache.allocators)


def test_a_running_sequences_pages_are_shared() -> None:
    device = WatchedDevice()
    target = engine(device, page_size=4, max_batch_size=2, prefill_chunk_size=8)
    device.watched = target.cache
    target.add(Request("a", prompt(0, 20), SamplingParams(max_tokens=20, ignore_eos=True)))
    for _ in range(4):
        target.step()
    target.add(Request("b", prompt(0, 20), SamplingParams(max_tokens=20, ignore_eos=True)))
    target.step()
    for pool in target.cache.allocators:
        assert [pool.references(page) for page in target._sequences["b"][0].page_tables[0]] == [2, 2, 2, 2, 1]
    target.cancel("a")
    assert tokens(run(target, [])["b"]) == run_alone(prompt(0, 20), 20)[1:]


def run_alone(one: tuple[int, ...], max_tokens: int) -> list[int]:
    return tokens(generate(engine(prefix_cache=False), one, SamplingParams(max_tokens=max_tokens, ignore_eos=True)))


def test_a_failed_step_leaves_no_page_behind() -> None:
    class Broken(FakeDevice):
        def greedy(self, logits):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    target = engine(Broken(), page_size=4)
    target.add(Request("one", prompt(0, 20)))
    with pytest.raises(KeyboardInterrupt):
        target.step()
    target.cancel("one")
    assert not any(pool.named for pool in target.cache.allocators)


def test_a_score_takes_nothing_and_gives_its_pages() -> None:
    target, one = engine(page_size=4), prompt(0, 21)
    generate(target, one, SHORT)
    assert target.score(one).tolist() == engine().score(one).tolist()
    both = Request("both", one, SHORT, prompt_logprobs=True)
    scores = run(target, [both])["both"][-1].prompt_logprobs
    assert scores is not None and len(scores) == 20 and counted(target) == (21, 0)
    other = prompt(1, 21)
    target.score(other)
    assert tokens(generate(target, other, SamplingParams(max_tokens=20))) == expected_greedy(other, 20)
    assert counted(target) == (42, 20)


def test_cancelled_and_preempted_sequences_leave_their_pages() -> None:
    target = engine(page_size=4, prefill_chunk_size=8)
    target.add(Request("one", prompt(0, 20)))
    target.step()
    target.cancel("one")
    generate(target, prompt(0, 20), SHORT)
    assert counted(target) == (40, 8)
    crowded = engine(page_size=4, max_batch_size=2, max_total_sequence_length=60)
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    outputs = run(crowded, [Request(str(seed), prompt(seed, 10), params) for seed in range(2)])
    assert crowded.metrics.preemptions > 0 and crowded.metrics.prefix_cache_hits > 0
    assert [tokens(outputs[str(seed)]) for seed in range(2)] == [run_alone(prompt(seed, 10), 30) for seed in range(2)]


def test_sharing_makes_room() -> None:
    target = engine(page_size=4, max_batch_size=2, max_total_sequence_length=44, prefill_chunk_size=64)
    for name in "ab":
        target.add(Request(name, prompt(0, 30), SamplingParams(max_tokens=4, ignore_eos=True)))
    target.step()
    assert [one.request_id for one in target._scheduler.running] == ["a"]
    target.step()
    assert [one.request_id for one in target._scheduler.running] == ["a", "b"]


def test_cached_pages_nobody_holds_are_not_room_twice() -> None:
    """Of 5 pages, b would take 3 cached ones that are free and need 1 more beside the 2 that a holds."""
    target = engine(page_size=4, max_batch_size=2, max_total_sequence_length=20)
    generate(target, prompt(0, 13), SHORT)
    target.add(Request("a", prompt(1, 7), SHORT))
    target.add(Request("b", prompt(0, 13), SHORT))
    target.step()
    assert [one.request_id for one in target._scheduler.waiting] == ["b"]
    assert tokens(run(target, [])["b"]) == run_alone(prompt(0, 13), 3)


def test_the_least_recently_used_prompt_gives_way_from_its_end() -> None:
    target = engine(page_size=4, max_total_sequence_length=48)
    one = SamplingParams(max_tokens=1)
    for seed in (0, 1, 0):  # 4 pages each, 8 named in all
        generate(target, prompt(seed, 17), one)
    generate(target, prompt(2, 22), one)  # 4 nameless pages were left; takes 2 of prompt 1's
    before = target.metrics.prefix_cache_hits
    generate(target, prompt(0, 17), one)
    assert target.metrics.prefix_cache_hits - before == 16
    generate(target, prompt(1, 17), one)
    assert target.metrics.prefix_cache_hits - before == 16 + 8


def test_a_page_is_of_no_use_when_one_before_it_is_gone() -> None:
    """b computes its first pages beside a, whose pages have the names, and are given up before b's later ones."""
    target = engine(page_size=4, max_batch_size=2, max_total_sequence_length=32, prefill_chunk_size=32)
    one = prompt(0, 8)
    params = [SamplingParams(max_tokens=number, ignore_eos=True) for number in (1, 10)]
    outputs = run(target, [Request(name, one, each) for name, each in zip("ab", params, strict=True)])
    text = (*one, *tokens(outputs["b"]))
    generate(target, prompt(1, 24), SamplingParams(max_tokens=1))
    names = [page_name(b"", text[:4])]
    for start in (4, 8, 12):
        names.append(page_name(names[-1], text[start : start + 4]))
    assert all([name in pool.named for name in names] == [False, False, True, True] for pool in target.cache.allocators)
    assert tokens(generate(target, text, SHORT)) == run_alone(text, 3)
    assert target.metrics.prefix_cache_hits == 0


def test_a_hit_needs_its_page_in_every_layer_group() -> None:
    cache = PagedKVCache([4, 2], page_size=4, prefix_cache=True)

    def sequence(seed: int, length: int) -> Sequence:
        return Sequence(Request("one", prompt(seed, length)), TextStream(None, ()), RequestMetrics(0.0))

    def compute(one: Sequence) -> None:
        assert cache.admit(one, chunk=512)
        start = one.num_computed
        cache.grow(one, len(one.token_ids))
        one.num_computed = len(one.token_ids)
        cache.prefix.add(one, start)
        cache.free(one)

    compute(sequence(0, 8))
    assert [len(table) for table in cache.prefix.find(sequence(0, 8))] == [1, 1]
    compute(sequence(1, 8))
    assert [len(pool.named) for pool in cache.allocators] == [4, 2]
    assert [len(table) for table in cache.prefix.find(sequence(0, 8))] == [0, 0]
    assert [len(table) for table in cache.prefix.find(sequence(1, 8))] == [1, 1]


def test_many_prompts_through_a_small_cache() -> None:
    device, checks = WatchedDevice(), PageChecks()
    target = engine(device, page_size=4, max_batch_size=3, max_total_sequence_length=72, prefill_chunk_size=8)
    device.watched = target.cache
    prompts = [(*prompt(seed % 2, 12), *prompt(seed % 5, 9)) for seed in range(15)]
    got: dict[str, list[int]] = {}
    for index, one in enumerate(prompts):
        target.add(Request(str(index), one, SamplingParams(max_tokens=12)))
    while target.has_work:
        for output in target.step():
            got.setdefault(output.request_id, []).extend(output.token_ids)
        checks.check(target)
    assert [got[str(index)] for index in range(15)] == [expected_greedy(one, 12) for one in prompts]
    assert target.metrics.prefix_cache_hits > 100 and len(checks.contents) > 2 * 18, "more names than pages"
