"""Decode steps in the shapes of a bucket, recorded and replayed, give what steps in their own shapes give."""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from built_tiny import BuildTiny, BuiltTiny
from kvscape.config import EngineConfig, Window
from kvscape.engine import Engine, Output, Request, SamplingParams
from kvscape.engine.devices import StepInput, decode_graphs
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.decode_graphs import DecodeGraphs
from kvscape.engine.devices.decode_numbers import Bucket, DecodeNumbers, Spare, bucket
from replaying_device import HostInts, Replay, ReplayingDevice

LENGTHS = [1, 17, 5, 40, 33, 16, 150]
PROMPTS = [tuple(np.random.default_rng(seed).integers(3, 300, length).tolist()) for seed, length in enumerate(LENGTHS)]
PARAMS = SamplingParams(max_tokens=24, ignore_eos=True)
KNOBS: dict[str, Any] = {"context_window_size": 256, "prefill_chunk_size": 64}


@pytest.fixture(scope="module")
def built(built_tiny: BuildTiny) -> BuiltTiny:
    return built_tiny("auto")


@cache
def devices(built: BuiltTiny) -> tuple[CpuDevice, ReplayingDevice]:
    arguments = built.library, built.packed_weights, 2
    return CpuDevice(*arguments), ReplayingDevice(*arguments)


def answers(target: Engine, params: SamplingParams = PARAMS) -> tuple[list[list[int]], list[list[float]]]:
    """Tokens of all prompts, asked at once, and their log-probabilities, which come from the logits."""
    outputs: dict[str, list[Output]] = {}
    for index, prompt in enumerate(PROMPTS):
        target.add(Request(str(index), prompt, replace(params, max_tokens=params.max_tokens + 3 * index)))
    while target.has_work:
        for output in target.step():
            outputs.setdefault(output.request_id, []).append(output)
    parts = [outputs[str(index)] for index in range(len(PROMPTS))]
    tokens = [[token for output in part for token in output.token_ids] for part in parts]
    return tokens, [[one.logprob for output in part for one in output.logprobs] for part in parts]


@pytest.mark.parametrize("kv_dtype", ["f16", "int8", "int4"])
@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("page_size", [16, 32])
def test_graphs_change_nothing(built: BuiltTiny, kv_dtype: str, batch: int, page_size: int) -> None:
    plain, replaying = devices(built)
    config = EngineConfig(**KNOBS, kv_dtype=kv_dtype, max_batch_size=batch, page_size=page_size)
    params = replace(PARAMS, logprobs=0)
    first, launches = len(replaying.replays), replaying.plain_steps
    assert answers(Engine(replaying, config), params) == answers(Engine(plain, config), params)
    mine = replaying.replays[first:]
    assert sum(replay.launches for replay in mine) > 4 * len(mine) > 0
    assert replaying.plain_steps - launches < 20  # prompts, and steps that have prompts beside


def test_graphs_change_no_window_preemption_or_choice(built: BuiltTiny) -> None:
    plain, replaying = devices(built)
    knobs = {**KNOBS, "max_batch_size": 4, "page_size": 16}
    windowed = EngineConfig(**{**knobs, "context_window_size": 512}, sliding_window_size=48, attention_sink_size=4)
    tight = EngineConfig(**knobs, max_total_sequence_length=256)
    for config in (windowed, tight):
        with_graphs, without = Engine(replaying, config), Engine(plain, config)
        assert answers(with_graphs) == answers(without)
        assert with_graphs.metrics == without.metrics
    assert with_graphs.metrics.preemptions > 0


def test_keys_of_several_ranges_change_nothing(built: BuiltTiny) -> None:
    plain, replaying = devices(built)
    config = EngineConfig(context_window_size=900, prefill_chunk_size=64, sliding_window_size=200, max_batch_size=3)
    params = replace(PARAMS, max_tokens=420)
    assert answers(Engine(replaying, config), params) == answers(Engine(plain, config), params)


def step(lengths: list[int], pages: int = 1) -> StepInput:
    n = list(range(len(lengths)))
    tables = [[[0] * pages for _ in n]]
    return StepInput(n, [length - 1 for length in lengths], [*n, len(n)], lengths, [n], tables, [Window()], n, n)


@pytest.mark.parametrize(
    ("lengths", "pages", "expected"),
    [
        ([1], 1, Bucket(1, 8, (16,))),
        ([64], 17, Bucket(1, 8, (32,))),
        ([513], 64, Bucket(1, 16, (64,))),
        ([8000], 500, Bucket(1, 128, (512,))),
        ([1, 64, 65], 1, Bucket(4, 8, (16,))),
        ([530] * 16, 34, Bucket(16, 160, (64,))),
        ([1] * 33, 1, Bucket(64, 64, (16,))),
    ],
)
def test_the_smallest_bucket_with_room(lengths: list[int], pages: int, expected: Bucket) -> None:
    assert bucket(step(lengths, pages), 64) == expected


def test_steps_without_a_bucket() -> None:
    one = step([5])
    assert bucket(one._replace(logit_rows=[]), 64) is None
    assert bucket(one._replace(query_starts=[0, 2]), 64) is None
    assert bucket(step([1] * 256), 64) is not None
    assert bucket(step([1] * 257), 64) is None


def test_a_page_table_that_was_changed_in_place_is_written_again() -> None:
    one = step([17], 2)
    sizes = bucket(one, 64)
    assert sizes is not None
    ints = HostInts(sizes.shapes())
    numbers = DecodeNumbers(sizes, ints, 64, Spare((9,), (144,), 3))
    for page in (5, 6):
        one.page_tables[0][0][1] = page  # type: ignore[index]
        numbers.fill(one)
        assert ints.arrays[7].tolist() == [[0, page, *[0] * 14]]


class Broken:
    """Cannot record."""

    calls = 0

    def __call__(self, run: Callable[[], Any]) -> tuple[Any, Replay]:
        self.calls += 1
        raise RuntimeError("no graph\nand more")


def test_a_failed_recording_is_not_tried_again(built: BuiltTiny) -> None:
    plain, _ = devices(built)
    config, broken = EngineConfig(**KNOBS), Broken()
    device = ReplayingDevice(built.library, built.packed_weights, 2)
    device.graphs = DecodeGraphs(broken, HostInts, device._launch, 256)
    with pytest.warns(RuntimeWarning, match="decode steps are launched one by one: no graph$"):
        found = answers(Engine(device, config))
    assert found == answers(Engine(plain, config))
    assert (broken.calls, device.graphs.failure, device.replays) == (1, "no graph", [])


def test_a_graph_belongs_to_its_pools_and_goes_with_them(built: BuiltTiny) -> None:
    device = ReplayingDevice(built.library, built.packed_weights, 2)
    pools = [device.allocate("f16", [4], 16, 1) for _ in range(2)]
    for place in (0, 1, 0, 1):
        device.forward(step([place + 1]), pools[place])
    assert [replay.launches for replay in device.replays] == [1, 1]
    assert device.graphs.recorded == 2
    for replay in device.replays:
        replay.forget()
    del pools[1]
    gc.collect()
    assert device.graphs.recorded == 1


def test_graphs_go_where_their_memory_moves_and_come_again(built: BuiltTiny) -> None:
    device = ReplayingDevice(built.library, built.packed_weights, 2)
    pools = device.allocate("f16", [40], 16, 8)
    device.forward(step([1]), pools)
    launch = device._launch

    def moving(*arguments: Any) -> Any:
        """A larger step."""
        device.graphs.forget()
        return launch(*arguments)

    device.graphs = DecodeGraphs(device._record, HostInts, moving, 256)
    for sequences in (2, 2, 1, 2):
        device.forward(step([1] * sequences), pools)
    assert [replay.launches for replay in device.replays] == [0, 1, 0, 0]


def test_the_graph_that_was_used_least_recently_goes(built: BuiltTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_graphs, "_MOST_GRAPHS", 2)
    device = ReplayingDevice(built.library, built.packed_weights, 2)
    pools = device.allocate("f16", [40], 16, 8)
    for sequences in (1, 2, 1, 4, 1, 2):
        device.forward(step([1] * sequences), pools)
    assert [replay.launches for replay in device.replays] == [2, 0, 0, 0]
    assert device.graphs.recorded == 2
