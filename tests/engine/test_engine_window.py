"""Windows and sinks: the same tokens however the work is cut, in a memory that does not grow."""

from dataclasses import replace
from functools import cache

import pytest
from fake_device import FakeDevice, toy_logits
from generation import engine, expected_greedy, prompt, run, run_choices, tokens

from kvscape.analysis.memory import num_pages
from kvscape.config import EngineConfig, LayerGroup, Window
from kvscape.engine import Request, SamplingParams
from kvscape.errors import ConfigError

PROMPTS = [prompt(seed, length) for seed, length in enumerate([1, 17, 90, 40])]
GREEDY = SamplingParams(max_tokens=60, ignore_eos=True)


@cache
def expected(window: Window) -> list[list[int]]:
    """Without the end-of-sequence token: the toy model goes on."""
    answers = []
    for one in PROMPTS:
        sequence = list(one)
        for _ in range(60):
            sequence.append(int(toy_logits(sequence, window=window).argmax()))
        answers.append(sequence[len(one) :])
    return answers


@pytest.mark.parametrize("window", [Window(0, 3), Window(0, 12), Window(4, 20)], ids=str)
@pytest.mark.parametrize(("batch", "chunk", "page_size"), [(1, 512, 16), (4, 3, 4), (4, 16, 8), (2, 7, 1)])
@pytest.mark.parametrize(("kv_dtype", "n"), [("f16", 1), ("int4", 1), ("int4", 3)])
def test_tokens_are_those_of_the_windowed_model(
    window: Window, batch: int, chunk: int, page_size: int, kv_dtype: str, n: int
) -> None:
    target = engine(
        FakeDevice(),
        sliding_window_size=window.size,
        attention_sink_size=window.sinks,
        max_batch_size=batch,
        prefill_chunk_size=chunk,
        page_size=page_size,
        kv_dtype=kv_dtype,
    )
    outputs = run_choices(target, [Request(str(i), one, replace(GREEDY, n=n)) for i, one in enumerate(PROMPTS)])
    assert [outputs[str(i)] for i in range(len(PROMPTS))] == [[answer] * n for answer in expected(window)]
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_a_window_narrower_than_a_group_of_keys_keeps_the_groups_pages() -> None:
    device = FakeDevice()
    target = engine(device, sliding_window_size=3, prefill_chunk_size=8, page_size=4, kv_dtype="int4")
    bound = -(-(3 + 15 + 8) // 4) + 1
    assert [pool.num_pages for pool in target.cache.allocators] == [bound, bound]
    (output,) = run_choices(target, [Request("one", PROMPTS[2], GREEDY)])["one"]
    assert output == expected(Window(0, 3))[2] and target.metrics.preemptions == 0


def test_pages_that_fall_out_are_freed_at_once() -> None:
    """Never more than ceil(S/p) + ceil((W - S + C)/p) + 1 pages, however long the text."""
    target = engine(FakeDevice(), sliding_window_size=20, attention_sink_size=4, prefill_chunk_size=8, page_size=4)
    bound = 1 + (16 + 8) // 4 + 1
    assert [pool.num_pages for pool in target.cache.allocators] == [bound, bound]
    target.add(Request("long", prompt(1, 150), SamplingParams(max_tokens=100, ignore_eos=True)))
    held = []
    while target.has_work:
        target.step()
        held.append(bound - target.cache.allocators[0].num_free)
    assert max(held) <= bound and held[-2] <= 1 + 16 // 4 + 1


def test_a_window_takes_less_memory_than_the_context_and_never_more() -> None:
    config = EngineConfig(context_window_size=4096, sliding_window_size=512, attention_sink_size=4)
    assert num_pages(config, LayerGroup((0,))) == 1 + -(-(508 + 512) // 16) + 1
    assert num_pages(EngineConfig(context_window_size=64, sliding_window_size=512), LayerGroup((0,))) == 4


def test_a_layers_own_window_is_kept_when_it_is_narrower() -> None:
    config = EngineConfig(sliding_window_size=512, attention_sink_size=4)
    assert config.window(LayerGroup((0,), 128)) == Window(4, 128)
    assert config.window(LayerGroup((0,), 4096)) == Window(4, 508)
    assert EngineConfig().window(LayerGroup((0,), 128)) == Window(0, 128)
    assert EngineConfig().window(LayerGroup((0,))) == Window()


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"sliding_window_size": 0}, "use -1 for no window"),
        ({"attention_sink_size": 4}, "there is no window"),
        ({"sliding_window_size": 4, "attention_sink_size": 4}, "use at most 3"),
        ({"sliding_window_size": 4, "attention_sink_size": -2}, "it must be at least 0"),
    ],
)
def test_a_window_that_makes_no_sense_is_one_line(knobs: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EngineConfig(**knobs)  # type: ignore[arg-type]


def test_the_windowed_expectation_differs_from_the_whole_context() -> None:
    assert expected(Window(4, 20))[2] != expected_greedy(PROMPTS[2], 60)


@pytest.mark.parametrize("window", [Window(0, 12), Window(4, 20)], ids=str)
@pytest.mark.parametrize("prefix_cache", [True, False])
@pytest.mark.parametrize("chunk", [8, 512])
def test_cached_beginnings_change_no_token_behind_a_window(window: Window, prefix_cache: bool, chunk: int) -> None:
    """The second round finds its prompts' pages, of which only those that are seen come back."""
    target = engine(
        FakeDevice(),
        sliding_window_size=window.size,
        attention_sink_size=window.sinks,
        max_batch_size=2,
        prefill_chunk_size=chunk,
        page_size=4,
        prefix_cache=prefix_cache,
    )
    for _ in range(2):
        outputs = run(target, [Request(str(i), one, GREEDY) for i, one in enumerate(PROMPTS)])
        assert [tokens(outputs[str(i)]) for i in range(len(PROMPTS))] == expected(window)
    if chunk == 512:  # small chunks get a pool so small that nothing is left to find
        assert (target.metrics.prefix_cache_hits > 0) == prefix_cache
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
