"""The engine in its thread: outputs reach their readers, readers that leave free their pages, failures stay apart."""

import asyncio
import gc
from collections.abc import Coroutine
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pytest
from fake_device import FakeDevice, FakeLogits
from generation import engine, expected_greedy, prompt, tokens

from kvscape.config import EngineConfig
from kvscape.engine import Answer, AsyncEngine, Engine, Output, Request, SamplingParams
from kvscape.engine.answer import hand_over
from kvscape.engine.devices import KVPools, StepInput
from kvscape.errors import CapacityError, ConfigError, EngineError, QueueFullError, StoppedError

FOREVER = SamplingParams(max_tokens=10**6, ignore_eos=True)
SHORT = SamplingParams(max_tokens=20)


class GatedDevice(FakeDevice):
    """Takes a step when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Semaphore(0)
        self.began = Event()

    def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
        self.began.set()
        assert self.turns.acquire(timeout=60)
        return super().forward(step, pools)


def serve(target: Engine, work: Any, **knobs: Any) -> Any:
    """Run ``work(engine in its thread)`` in an event loop, then stop; all pages must be free."""

    async def served() -> Any:
        served_by = AsyncEngine(target, **knobs)
        try:
            return await asyncio.wait_for(work(served_by), 60)
        finally:
            await served_by.stop()

    result = asyncio.run(served())
    assert not target.has_work
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
    return result


async def read(answer: Answer) -> list[Output]:
    return [output async for output in answer]


async def read_all(target: AsyncEngine, requests: list[Request]) -> list[list[Output]]:
    answers = [target.submit(request) for request in requests]
    return list(await asyncio.gather(*map(read, answers)))


async def until(met: Any) -> None:
    while not met():
        await asyncio.sleep(0)


def test_each_reader_gets_its_own_answer() -> None:
    prompts = [prompt(seed, 5 + seed) for seed in range(9)]

    async def work(target: AsyncEngine) -> list[list[Output]]:
        return await read_all(target, [Request(str(i), one, SHORT) for i, one in enumerate(prompts)])

    got = serve(engine(max_batch_size=3), work)
    assert [tokens(outputs) for outputs in got] == [expected_greedy(one, 20) for one in prompts]
    assert all(outputs[-1].finish_reason in ("stop", "length") for outputs in got)
    assert all({output.request_id for output in outputs} == {str(i)} for i, outputs in enumerate(got))


def test_all_choices_come_before_the_answer_ends() -> None:
    params = SamplingParams(max_tokens=9, temperature=1, n=4)

    async def work(target: AsyncEngine) -> list[Output]:
        return await read(target.submit(Request("one", prompt(0, 9), params)))

    outputs = serve(engine(max_batch_size=2), work)
    assert sorted(output.index for output in outputs if output.finish_reason) == [0, 1, 2, 3]


def test_a_step_is_one_call_into_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    async def work(target: AsyncEngine) -> list[list[Output]]:
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(what: Any, *rest: Any) -> Any:
            calls.append(what)
            return call(what, *rest)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        answers = [target.submit(Request(str(i), prompt(i, 4), SHORT)) for i in range(4)]
        device.turns.release(100)
        return list(await asyncio.gather(*map(read, answers)))

    device = GatedDevice()
    target = engine(device, max_batch_size=4)
    outputs = serve(target, work)
    assert calls.count(hand_over) == target.metrics.steps < sum(map(len, outputs)) / 2


def test_a_cancelled_answer_says_so_and_frees_its_pages_before_the_next_step() -> None:
    device = GatedDevice()
    target = engine(device, max_batch_size=2)

    async def work(served: AsyncEngine) -> list[Output]:
        answer = served.submit(Request("leaves", prompt(0, 50), FOREVER))
        await until(device.began.is_set)
        stays = served.submit(Request("stays", prompt(1, 3), SamplingParams(max_tokens=3, ignore_eos=True)))
        answer.cancel()
        answer.cancel()
        device.turns.release(100)
        assert len(tokens(await read(stays))) == 3
        return await read(answer)

    outputs = serve(target, work)
    assert outputs[-1].finish_reason == "cancelled" and len(tokens(outputs)) == 1
    assert [len(step.kv_lengths) for step in device.steps] == [1] * len(device.steps), "no step had both"


@pytest.mark.parametrize("leaves", ["break", "task", "timeout"])
def test_a_reader_that_goes_away_cancels_its_request(leaves: str) -> None:
    target = engine(max_batch_size=2, context_window_size=2048)

    async def take_three(answer: Answer) -> None:
        number = 0
        async for _ in answer:
            number += 1
            if number == 3:
                break

    async def work(served: AsyncEngine) -> None:
        answer = served.submit(Request("leaves", prompt(0, 20), FOREVER))
        if leaves == "break":
            await take_three(answer)
        elif leaves == "task":
            reader = asyncio.ensure_future(read(answer))
            await until(lambda: target.metrics.generated_tokens > 3)
            reader.cancel()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read(answer), 0)  # it never begins to read
        del answer
        gc.collect()
        await until(lambda: served.gauges().running == served.gauges().waiting == 0)
        assert served.gauges().pages_used == 0

    serve(target, work)
    assert target.metrics.generated_tokens < 2000


def test_a_slow_reader_delays_nobody_and_loses_nothing() -> None:
    target = engine(max_batch_size=2)

    async def work(served: AsyncEngine) -> list[list[Output]]:
        slow = served.submit(Request("slow", prompt(0, 9), SHORT))
        fast = await read(served.submit(Request("fast", prompt(1, 9), SHORT)))
        await until(lambda: served.gauges().running == 0)
        return [await read(slow), fast]

    got = serve(target, work)
    assert [tokens(outputs) for outputs in got] == [expected_greedy(prompt(seed, 9), 20) for seed in (0, 1)]


def test_too_many_that_wait_are_turned_away_with_a_time_to_try_again() -> None:
    device = GatedDevice()

    async def work(served: AsyncEngine) -> None:
        answers = [served.submit(Request(str(i), prompt(i, 4), SHORT)) for i in range(5)]
        with pytest.raises(QueueFullError, match="too many requests wait: 5 answers are open, at most 5 may") as full:
            served.submit(Request("more", prompt(9, 4), SHORT))
        assert 1 <= full.value.retry_after_s <= 60
        device.turns.release(1000)
        await asyncio.gather(*map(read, answers))
        await read(served.submit(Request("more", prompt(9, 4), SHORT)))

    serve(engine(device, max_batch_size=2), work, max_waiting=3)


def test_what_cannot_be_served_is_refused_at_once() -> None:
    async def work(served: AsyncEngine) -> None:
        for request, kind in [
            (Request("a", (), SHORT), ConfigError),
            (Request("a", prompt(0, 400), SHORT), CapacityError),
            (Request("a", (3, 4), SHORT, prompt_logprobs=True, prompt_logits=True), ConfigError),
        ]:
            with pytest.raises(kind):
                served.submit(request)
        answer = served.submit(Request("a", prompt(0, 4), FOREVER))
        with pytest.raises(ConfigError, match="already there"):
            served.submit(Request("a", prompt(0, 4), SHORT))
        answer.cancel()
        await read(answer)
        assert tokens(await read(served.submit(Request("a", prompt(0, 4), SHORT)))) == expected_greedy(prompt(0, 4), 20)

    serve(engine(), work)


def test_stopping_drains_what_is_there_and_takes_no_more() -> None:
    async def work(served: AsyncEngine) -> list[Output]:
        answer = served.submit(Request("one", prompt(0, 9), SHORT))
        await served.stop(drain_s=60)
        with pytest.raises(StoppedError, match="the engine is stopping"):
            served.submit(Request("two", prompt(0, 9), SHORT))
        return await read(answer)

    assert tokens(serve(engine(), work)) == expected_greedy(prompt(0, 9), 20)


def test_stopping_cancels_what_does_not_finish_in_time() -> None:
    async def work(served: AsyncEngine) -> list[list[Output]]:
        answers = [served.submit(Request(str(i), prompt(i, 9), FOREVER)) for i in range(3)]
        await until(lambda: served.gauges().metrics.steps > 2)
        await served.stop(drain_s=0.0)
        return list(await asyncio.gather(*map(read, answers)))

    got = serve(engine(max_batch_size=2, context_window_size=2048), work)
    assert [outputs[-1].finish_reason for outputs in got] == ["cancelled"] * 3


def test_an_idle_engine_sleeps_until_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()
    steps: list[int] = []
    step = target.step

    def counted() -> list[Output]:
        steps.append(0)
        return step()

    monkeypatch.setattr(target, "step", counted)

    async def work(served: AsyncEngine) -> None:
        for index in range(3):
            for _ in range(50):
                await asyncio.sleep(0)
            await read(served.submit(Request(str(index), prompt(index, 4), SHORT)))

    serve(target, work)
    assert len(steps) == target.metrics.steps


def test_a_failing_step_ends_its_requests_and_the_loop_goes_on() -> None:
    class Failing(FakeDevice):
        def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
            if len(step.token_ids) > 30:
                raise FloatingPointError("no")
            return super().forward(step, pools)

    async def work(served: AsyncEngine) -> tuple[list[list[Output]], list[Output]]:
        failed = await read_all(served, [Request("long", prompt(0, 40), SamplingParams(n=2, temperature=1))])
        return failed, await read(served.submit(Request("other", prompt(1, 9), SHORT)))

    (failed,), well = serve(engine(Failing(), max_batch_size=3), work)
    assert [(output.finish_reason, output.index) for output in failed] == [("error", 0), ("error", 1)]
    error = failed[0].error
    assert isinstance(error, EngineError) and str(error).startswith(
        "the request failed in the engine: FloatingPointError: no"
    )
    assert tokens(well) == expected_greedy(prompt(1, 9), 20)


def test_a_request_that_cannot_begin_ends_alone() -> None:
    def broken() -> Any:
        raise ZeroDivisionError("no detokenizer today")

    made = iter([None, broken])

    def detokenizer() -> Any:
        wrong = next(made)
        return wrong() if wrong else Silent()

    class Silent:
        def add(self, token_id: int) -> str:
            return ""

        def finish(self) -> str:
            return ""

    async def work(served: AsyncEngine) -> list[list[Output]]:
        return await read_all(served, [Request(str(i), prompt(i, 9), SHORT) for i in range(2)])

    well, failed = serve(Engine(FakeDevice(), EngineConfig(max_batch_size=2), detokenizer), work)
    assert tokens(well) == expected_greedy(prompt(0, 9), 20)
    assert [output.finish_reason for output in failed] == ["error"]


def test_a_loop_that_fails_tells_every_reader(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = GatedDevice()
    target = engine(device, max_batch_size=2)

    def broken() -> Any:
        raise AssertionError("a bug")

    monkeypatch.setattr(target, "_postprocess", lambda *_: broken())

    async def work() -> None:
        served = AsyncEngine(target)
        answers = [served.submit(Request(str(i), prompt(i, 9), SHORT)) for i in range(3)]
        device.turns.release(100)
        for answer in answers:
            with pytest.raises(StoppedError, match="the engine failed: AssertionError"):
                await read(answer)
        with pytest.raises(StoppedError, match="the engine failed"):
            served.submit(Request("late", prompt(0, 9), SHORT))
        await served.stop(drain_s=60)

    asyncio.run(work())
    assert "the engine's loop failed" in caplog.text


def test_an_event_loop_that_is_closed_stops_no_other() -> None:
    device = GatedDevice()
    target = engine(device, max_batch_size=2)
    served = AsyncEngine(target)
    kept: list[Answer] = []

    async def begins() -> None:
        kept.append(served.submit(Request("gone", prompt(0, 9), FOREVER)))
        await until(device.began.is_set)

    async def ends() -> list[Output]:
        answer = served.submit(Request("stays", prompt(1, 9), SHORT))
        device.turns.release(10_000)
        outputs = await read(answer)
        await served.stop(drain_s=60)
        return outputs

    assert run(begins()) is None
    assert tokens(run(ends())) == expected_greedy(prompt(1, 9), 20)
    assert served.gauges().pages_used == 0 and target.metrics.finished_requests == 2


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_gauges_say_what_is_going_on() -> None:
    device = GatedDevice()
    target = engine(device, max_batch_size=2, page_size=16)

    async def work(served: AsyncEngine) -> None:
        answers = [served.submit(Request(str(i), prompt(i, 20), SHORT)) for i in range(3)]
        device.turns.release(1)
        await until(lambda: len(device.steps) == 1 and served.gauges().metrics.steps == 1)
        gauges = served.gauges()
        assert gauges.running + gauges.waiting == 3 and gauges.pages_used > 0 and gauges.batch in (1, 2)
        assert gauges.pages_total == sum(pool.num_pages for pool in target.cache.allocators)
        device.turns.release(1000)
        await asyncio.gather(*map(read, answers))
        await until(lambda: served.gauges().batch == 0)
        assert served.gauges().metrics.finished_requests == 3

    serve(target, work)


def test_many_clients_that_come_and_go_leave_nothing_behind() -> None:
    random = np.random.default_rng(0)
    target = engine(max_batch_size=4, max_total_sequence_length=512, prefill_chunk_size=32)
    plans = [
        (int(random.integers(1, 60)), int(random.integers(1, 30)), int(random.integers(0, 12))) for _ in range(200)
    ]

    async def client(served: AsyncEngine, number: int) -> bool:
        length, most, leaves_after = plans[number]
        one = prompt(number, length)
        got: list[int] = []
        async for output in served.submit(Request(str(number), one, SamplingParams(max_tokens=most))):
            got += output.token_ids
            if number % 2 and len(got) > leaves_after:
                break
        return got == expected_greedy(one, most)[: len(got)]

    async def work(served: AsyncEngine) -> list[bool]:
        right = await asyncio.gather(*(client(served, number) for number in range(len(plans))))
        gc.collect()
        await until(lambda: served.gauges().running == served.gauges().waiting == 0)
        return list(right)

    assert all(serve(target, work))
    assert target.metrics.finished_requests == len(plans)
