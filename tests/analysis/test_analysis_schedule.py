"""The sums are those of a step-by-step simulation, written down plainly here."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from test_analysis_roofline import SMOLLM2

from kvscape.analysis.schedule import FLOAT_ROWS, INTEGER_ROWS, SUMS, TIMES, schedule
from kvscape.config import EngineConfig, ModelConfig, Workload

Step = list[tuple[int, int, int]]
"""Chunks of a step: stream, first position, last position + 1."""


def simulated(engine: EngineConfig, work: Workload) -> Iterator[Step]:
    prompt, done, given = work.prompt_tokens, [0] * engine.max_batch_size, [0] * engine.max_batch_size
    while min(given) < work.max_tokens:
        budget, step = max(engine.prefill_chunk_size, engine.max_batch_size), []
        live = [stream for stream, count in enumerate(given) if count < work.max_tokens]
        for stream in sorted(live, key=lambda one: given[one] == 0):
            wanted = 1 if given[stream] else prompt - done[stream]
            tokens = min(wanted, budget, engine.prefill_chunk_size)
            if tokens:
                step.append((stream, done[stream], done[stream] + tokens))
                done[stream] += tokens
                budget -= tokens
        for stream, _, stop in step:
            given[stream] += stop >= prompt
        yield step


def sums(model: ModelConfig, engine: EngineConfig, steps: list[Step], prompt: int) -> list[float]:
    windows = [engine.window(group).size for group in model.layer_groups for _ in group.layers]
    found = dict.fromkeys(SUMS, 0.0)
    for step in steps:
        tokens, rows = sum(stop - start for _, start, stop in step), sum(stop >= prompt for _, _, stop in step)
        found["steps"] += 1
        found["tokens"] += tokens
        found["logit_rows"] += rows
        found["passes"] += tokens // 4 + tokens % 4
        found["logit_passes"] += rows // 4 + rows % 4
        for _, start, stop in step:
            oldest = [max(0, start + 1 - window) for window in windows]
            found["keys_read"] += float(np.mean([stop - first for first in oldest]))
            seen = [min(position + 1, window) for window in windows for position in range(start, stop)]
            found["keys_seen"] += sum(seen) / len(windows)
    return list(found.values())


@pytest.mark.parametrize("window", [-1, 12])
@pytest.mark.parametrize(("batch", "chunk"), [(1, 64), (1, 7), (3, 16), (5, 4), (4, 64)])
def test_prefill_and_decode_are_what_the_scheduler_does(batch: int, chunk: int, window: int) -> None:
    engine = EngineConfig(512, chunk, batch, sliding_window_size=window, attention_sink_size=4 if window > 0 else 0)
    work = Workload(prompt_tokens=19, max_tokens=9)
    steps = list(simulated(engine, work))
    reached = [next(n for n, step in enumerate(steps) if any(s == one and stop >= 19 for s, _, stop in step))
               for one in range(batch)]  # fmt: skip
    prefilled = max(reached) + 1
    plan = schedule(SMOLLM2, engine, work)
    prefill, decode = (plan.sums[TIMES.index(name)] for name in ("prefill_s", "decode_s"))
    np.testing.assert_allclose(prefill, sums(SMOLLM2, engine, steps[:prefilled], 19))
    np.testing.assert_allclose(decode, sums(SMOLLM2, engine, steps[prefilled:], 19))
    assert plan.decoded == sum(len(step) for step in steps[prefilled:])
    ttft, e2e = (plan.sums[TIMES.index(name)][0] for name in ("ttft_s", "e2e_s"))
    assert ttft == np.median(reached) + 1
    assert e2e == np.median([number + 9 for number in reached])


def test_one_stream_waits_for_its_prompt_and_then_for_each_token() -> None:
    plan = schedule(SMOLLM2, EngineConfig(512, 64), Workload(prompt_tokens=100, max_tokens=11))
    named = dict(zip(TIMES, plan.sums[:, SUMS.index("steps")], strict=True))
    assert named == {"prefill_s": 2, "decode_s": 10, "ttft_s": 2, "tpot_s": 1, "e2e_s": 12}


def test_layers_with_windows_of_their_own_see_less() -> None:
    half = replace(SMOLLM2, sliding_window=8, layer_types=("full_attention", "sliding_attention") * 15)
    engine, work = EngineConfig(512, 64), Workload(prompt_tokens=32, max_tokens=5)
    plan = schedule(half, engine, work)
    steps = list(simulated(engine, work))
    np.testing.assert_allclose(plan.sums[0], sums(half, engine, steps[:1], 32))
    assert plan.sums[0][SUMS.index("keys_seen")] < 32 * 33 / 2


def test_rows_that_fill_no_block_take_passes_of_their_own() -> None:
    def passes(batch: int, rows: tuple[int, ...]) -> float:
        plan = schedule(SMOLLM2, EngineConfig(64, 64, batch), Workload(prompt_tokens=2, max_tokens=2), rows)
        return float(plan.sums[TIMES.index("decode_s"), SUMS.index("passes")])

    assert [passes(batch, INTEGER_ROWS) for batch in (1, 2, 3, 4, 5, 8)] == [1, 2, 3, 1, 2, 2]
    assert [passes(batch, FLOAT_ROWS) for batch in (1, 2, 3, 4, 5, 6)] == [1, 1, 2, 2, 3, 1]
