"""A request that fails ends alone: its neighbours get the tokens that they get without it, and no page stays behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_device import FakeDevice, FakeLogits
from generation import expected_greedy, prompt, tokens

from kvscape.config import EngineConfig
from kvscape.engine import Engine, Output, Request, SamplingParams, model_runner
from kvscape.engine.devices import KVPools, StepInput
from kvscape.engine.devices.device import Draw, Logits
from kvscape.engine.sampler import wanted_draw
from kvscape.engine.sequence import Sequence
from kvscape.errors import ConfigError, EngineError

NEIGHBOURS = [prompt(seed, 10 + seed) for seed in range(3)]
POISONED = prompt(77, 12)
SAMPLED = SamplingParams(max_tokens=20, temperature=0.8, seed=3, presence_penalty=0.1, ignore_eos=True)
KNOBS: dict[str, Any] = {"context_window_size": 256, "max_batch_size": 4, "page_size": 8, "prefill_chunk_size": 16}


class Poisoned:
    """A detokenizer that raises at its n-th token, or at the end."""

    def __init__(self, number: int) -> None:
        self._left = number

    def add(self, token_id: int) -> str:
        self._left -= 1
        if self._left == 0:
            raise LookupError("bad text")
        return "a"

    def finish(self) -> str:
        if self._left > 0:
            raise LookupError("bad end")
        return ""


class Harmless:
    def add(self, token_id: int) -> str:
        return "b"

    def finish(self) -> str:
        return ""


def finish(target: Engine, failing: Callable[[Exception], list[Output]] | None = None) -> dict[str, list[Output]]:
    """Step until all is done; then every page must be free."""
    outputs: dict[str, list[Output]] = {}
    while target.has_work:
        try:
            got = target.step()
        except Exception as error:
            assert failing is not None
            got = failing(error)
        for output in got:
            outputs.setdefault(output.request_id, []).append(output)
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
    assert sorted(target.cache.free_tails) == list(range(target.config.max_batch_size))
    return outputs


def beside(target: Engine, params: SamplingParams, *others: Request) -> dict[str, list[Output]]:
    """All outputs, with the neighbours added behind ``others``."""
    for request in (*others, *(Request(str(index), one, params) for index, one in enumerate(NEIGHBOURS))):
        target.add(request)
    return finish(target)


def answers(outputs: dict[str, list[Output]]) -> list[list[int]]:
    """The neighbours' tokens; none of them may have failed."""
    mine = [outputs[str(index)] for index in range(len(NEIGHBOURS))]
    assert all(one[-1].finish_reason == "length" for one in mine)
    return [tokens(one) for one in mine]


def poison_sampler(monkeypatch: pytest.MonkeyPatch, at: int, index: int = 0) -> None:
    def poisoned(row: int, sequence: Sequence, ahead: int = 0) -> Draw:
        if sequence.request_id == "bad" and (sequence.num_output_tokens, sequence.index) == (at, index):
            raise ArithmeticError("bad sampler")
        return wanted_draw(row, sequence, ahead)

    monkeypatch.setattr(model_runner, "wanted_draw", poisoned)


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("greedy_neighbours", [True, False])
def test_a_raising_sampler_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch, at: int, greedy_neighbours: bool
) -> None:
    params = SamplingParams(max_tokens=20, ignore_eos=True) if greedy_neighbours else SAMPLED
    alone = answers(beside(Engine(FakeDevice(), EngineConfig(**KNOBS)), params))
    poison_sampler(monkeypatch, at)
    outputs = beside(Engine(FakeDevice(), EngineConfig(**KNOBS)), params, Request("bad", POISONED, SAMPLED))
    assert answers(outputs) == alone
    bad = outputs["bad"]
    assert len(tokens(bad)) == at and bad[-1].finish_reason == "error" and not bad[-1].token_ids
    assert isinstance(bad[-1].error, EngineError) and "ArithmeticError: bad sampler" in str(bad[-1].error)
    assert bad[-1].metrics is not None and bad[-1].metrics.finished_s is not None


def test_logits_that_cannot_be_drawn_from_end_their_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=20, temperature=1, ignore_eos=True)
    alone = answers(beside(Engine(FakeDevice(), EngineConfig(**KNOBS)), params))
    sample = FakeDevice.sample

    def poisoned(self: FakeDevice, logits: Logits, draws: list[Draw]) -> list[int]:
        if any(draw.temperature == 0.5 for draw in draws):
            together.append(len(draws) > 1)
            raise ArithmeticError("bad logits")
        return sample(self, logits, draws)

    together: list[bool] = []

    monkeypatch.setattr(FakeDevice, "sample", poisoned)
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    target.add(Request("first", NEIGHBOURS[0], params))
    target.step()
    target.add(Request("bad", POISONED, replace(params, temperature=0.5)))
    outputs = beside(target, params)
    assert answers(outputs) == alone and outputs["first"][-1].finish_reason == "length"
    assert [output.finish_reason for output in outputs["bad"]] == ["error"] and together == [True, False]


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 3])
def test_a_failing_choice_ends_its_request_with_all_choices(
    monkeypatch: pytest.MonkeyPatch, index: int, at: int
) -> None:
    poison_sampler(monkeypatch, at, index)
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    target.add(
        Request(
            "bad", POISONED, SamplingParams(max_tokens=9, temperature=1, presence_penalty=0.1, n=3, ignore_eos=True)
        )
    )
    outputs = finish(target)["bad"]
    assert sorted(output.index for output in outputs if output.finish_reason == "error") == [0, 1, 2]
    assert len([output for output in outputs if output.finish_reason]) == 3


def test_choices_that_had_ended_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_sampler(monkeypatch, 1, 1)
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    target.add(Request("bad", POISONED, SamplingParams(max_tokens=1, temperature=1, n=2)))
    target.add(Request("worse", POISONED, SamplingParams(max_tokens=1, temperature=1, n=2)))
    reasons = {name: [one.finish_reason for one in outputs] for name, outputs in finish(target).items()}
    assert reasons == {"bad": ["length", "length"], "worse": ["length", "length"]}


@pytest.mark.parametrize("number", [1, 4, 20, 100])
def test_a_raising_text_ends_its_request_alone(number: int) -> None:
    alone = answers(beside(Engine(FakeDevice(), EngineConfig(**KNOBS), Harmless), SAMPLED))
    bad = Request("bad", POISONED, SAMPLED, detokenizer=lambda: Poisoned(number))
    outputs = beside(Engine(FakeDevice(), EngineConfig(**KNOBS), Harmless), SAMPLED, bad)
    assert answers(outputs) == alone
    last = outputs["bad"][-1]
    assert last.finish_reason == "error" and "LookupError" in str(last.error)
    assert [output.finish_reason for output in outputs["bad"][:-1]] == [None] * min(number - 1, 19)


def test_cancelling_a_request_whose_text_raises_ends_all_of_its_choices() -> None:
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    params = SamplingParams(max_tokens=20, temperature=1, n=3, ignore_eos=True)
    target.add(Request("bad", POISONED, params, detokenizer=lambda: Poisoned(100)))
    target.step()
    assert [output.finish_reason for output in target.cancel("bad")] == ["error"] * 3
    assert finish(target) == {}


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_raising_step_ends_the_requests_in_it_and_the_next_ones_are_right(prefix_cache: bool) -> None:
    class Failing(FakeDevice):
        def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
            logits = super().forward(step, pools)  # half of it may be written
            if len(self.steps) == 4:
                raise MemoryError("no memory")
            return logits

    knobs = {**KNOBS, "max_batch_size": 2, "prefix_cache": prefix_cache}
    target = Engine(Failing(), EngineConfig(**knobs))
    for index, one in enumerate(NEIGHBOURS):
        target.add(Request(str(index), one, SamplingParams(max_tokens=20)))
    outputs = finish(target, target.fail)
    assert [outputs[str(index)][-1].finish_reason == "error" for index in range(3)] == [True, True, False]
    assert all("MemoryError: no memory" in str(outputs[name][-1].error) for name in ("0", "1"))
    assert tokens(outputs["2"]) == expected_greedy(NEIGHBOURS[2], 20)
    target.add(Request("again", NEIGHBOURS[0], SamplingParams(max_tokens=20)))
    assert tokens(finish(target)["again"]) == expected_greedy(NEIGHBOURS[0], 20)


def test_nothing_fails_where_no_step_did() -> None:
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    target.add(Request("one", POISONED, SAMPLED))
    target.step()
    assert target.fail(ValueError("not of a step")) == []
    assert tokens(finish(target)["one"])


def test_logit_bias_moves_the_choice_and_leaves_log_probabilities() -> None:
    def answer(**fields: Any) -> list[Output]:
        target = Engine(FakeDevice(), EngineConfig(**KNOBS))
        target.add(Request("one", POISONED, SamplingParams(max_tokens=12, ignore_eos=True, **fields)))
        return finish(target)["one"]

    free = tokens(answer())
    assert set(tokens(answer(logit_bias=((17, 100.0),)))) == {17}
    banned = tokens(answer(logit_bias=((free[0], -100.0),)))
    assert free[0] not in banned
    forced = answer(logit_bias=((17, 100.0),), logprobs=1)[0]
    plain = answer(logprobs=40)[0]
    (of_17,) = (value for token, value in plain.logprobs[0].top if token == 17)
    assert forced.logprobs[0].logprob == pytest.approx(of_17) and forced.logprobs[0].top[0][0] == free[0]
    assert set(tokens(answer(temperature=1.5, logit_bias=((17, 100.0),)))) == {17}


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (((3, 101.0),), "logit_bias = 101"),
        (((3, float("nan")),), "logit_bias = nan"),
        (((40, 1.0),), "token 40 in logit"),
    ],
)
def test_a_bias_that_makes_no_sense_is_turned_away(bias: tuple[tuple[int, float], ...], message: str) -> None:
    target = Engine(FakeDevice(), EngineConfig(**KNOBS))
    with pytest.raises(ConfigError, match=message):
        target.add(Request("one", POISONED, SamplingParams(logit_bias=bias)))
