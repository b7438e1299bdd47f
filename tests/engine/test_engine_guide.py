"""Guides: only allowed tokens come, greedy and sampled; the state follows its answer through preemption and choices."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_device import EOS, FakeDevice, toy_logits
from generation import engine, prompt, run, tokens

from kvscape.engine import Guide, Output, Request, SamplingParams
from kvscape.engine.guide import BoolArray
from kvscape.errors import ConfigError, EngineError

VOCAB = 40
PARAMS = SamplingParams(max_tokens=30)


class Rising:
    """Allows tokens above the last one, no more than ``step`` above it; complete with the last of the vocabulary."""

    def __init__(self, step: int = 6, may_end: bool = False) -> None:
        self._last, self._step = 2, step
        self.may_end = may_end
        self.accepted: list[int] = []

    def allowed(self) -> BoolArray:
        ids = np.arange(VOCAB)
        return (ids > self._last) & (ids <= self._last + self._step)

    def accept(self, token_id: int) -> None:
        assert self.allowed()[token_id], "never told of a token that it does not allow"
        self._last = token_id
        self.accepted.append(token_id)

    @property
    def complete(self) -> bool:
        return self._last == VOCAB - 1


def guided(number: int, make: Callable[[], Guide] = Rising, **fields: Any) -> Request:
    return Request(str(number), prompt(number, 8 + number), replace(PARAMS, **fields), guide=make)


def expected(number: int) -> list[int]:
    """The greedy choice among what is allowed, without engine or cache."""
    guide, sequence = Rising(), list(prompt(number, 8 + number))
    while not guide.complete:
        logits = np.where(guide.allowed(), toy_logits(sequence), -np.inf)
        sequence.append(int(logits.argmax()))
        guide.accept(sequence[-1])
    return sequence[8 + number :]


def reasons(outputs: list[Output]) -> list[str | None]:
    return [output.finish_reason for output in outputs if output.finish_reason]


def test_only_allowed_tokens_come_and_the_answer_ends_when_it_is_complete() -> None:
    outputs = run(engine(max_batch_size=4), [guided(number) for number in range(6)])
    for number in range(6):
        assert tokens(outputs[str(number)]) == expected(number)
        assert reasons(outputs[str(number)]) == ["stop"]


def test_neighbours_without_a_guide_are_what_they_are_without_those_with_one() -> None:
    free = [Request(f"free {n}", prompt(50 + n, 9), PARAMS) for n in range(3)]
    alone = run(engine(max_batch_size=6), free)
    mixed = run(engine(max_batch_size=6), [*free, *(guided(number) for number in range(3))])
    assert [tokens(mixed[one.request_id]) for one in free] == [tokens(alone[one.request_id]) for one in free]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_guide_survives_preemption(temperature: float) -> None:
    requests = [guided(number, temperature=temperature, seed=number) for number in range(6)]
    calm = run(engine(max_batch_size=1), requests)
    target = engine(max_batch_size=4, page_size=4, max_total_sequence_length=48, prefill_chunk_size=5)
    pressed = run(target, requests)
    assert target.metrics.preemptions > 0
    assert {name: tokens(one) for name, one in pressed.items()} == {name: tokens(one) for name, one in calm.items()}


def test_each_choice_has_a_guide_of_its_own() -> None:
    made: list[Rising] = []

    def make() -> Rising:
        made.append(Rising())
        return made[-1]

    outputs = run(engine(max_batch_size=2), [guided(0, make, temperature=2.0, n=4, seed=5)])["0"]
    choices = [tokens(one for one in outputs if one.index == index) for index in range(4)]
    assert [guide.accepted for guide in made] == choices and len(set(map(tuple, choices))) > 1
    alone = run(engine(), [guided(0, temperature=2.0, seed=7)])["0"]
    assert tokens(alone) == choices[2]


def test_the_end_of_sequence_is_allowed_where_the_answer_may_end() -> None:
    bias = ((EOS, 100.0),)
    may, may_not = guided(0, lambda: Rising(may_end=True), logit_bias=bias), guided(1, logit_bias=bias)
    outputs = run(engine(max_batch_size=2), [may, may_not])
    assert tokens(outputs["0"]) == [EOS] and reasons(outputs["0"]) == ["stop"]
    assert EOS not in tokens(outputs["1"]) and tokens(outputs["1"])[-1] == VOCAB - 1


def test_max_tokens_cuts_a_guided_answer() -> None:
    outputs = run(engine(), [guided(0, max_tokens=3)])["0"]
    assert tokens(outputs) == expected(0)[:3] and reasons(outputs) == ["length"]


def test_log_probabilities_are_the_models_own() -> None:
    outputs = run(engine(), [guided(0, logprobs=2)])["0"]
    logits = toy_logits(prompt(0, 8)).astype(np.float64)
    (first,) = outputs[0].logprobs
    assert first.logprob == pytest.approx(logits[first.token_id] - np.log(np.exp(logits).sum()), rel=1e-6)
    assert first.top[0][0] == int(logits.argmax())


class Stuck(Rising):
    def allowed(self) -> BoolArray:
        return np.zeros(VOCAB, np.bool_) if self.accepted else super().allowed()


class RaisesWhenAsked(Rising):
    def allowed(self) -> BoolArray:
        if len(self.accepted) == 2:
            raise OSError("mask")
        return super().allowed()


class RaisesWhenTold(Rising):
    def accept(self, token_id: int) -> None:
        raise OSError("accept")


@pytest.mark.parametrize(
    ("make", "number", "message"),
    [
        (Stuck, 1, "no token is allowed"),
        (RaisesWhenAsked, 2, "OSError: mask"),
        (RaisesWhenTold, 0, "OSError: accept"),
    ],
)
def test_a_failing_guide_ends_its_request_alone(make: Callable[[], Guide], number: int, message: str) -> None:
    target = engine(FakeDevice(), max_batch_size=4)
    outputs = run(target, [guided(0), guided(1, make), guided(2)])
    assert [tokens(outputs[name]) for name in ("0", "2")] == [expected(0), expected(2)]
    assert reasons(outputs["1"]) == ["error"] and len(tokens(outputs["1"])) == number
    assert isinstance(outputs["1"][-1].error, EngineError) and message in str(outputs["1"][-1].error)
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_a_guide_that_cannot_be_made_adds_nothing() -> None:
    def broken() -> Guide:
        raise ValueError("no grammar")

    target = engine()
    with pytest.raises(ValueError, match="no grammar"):
        target.add(guided(0, broken))
    assert not target.has_work and run(target, [guided(0)])


def test_a_guided_answer_that_must_not_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="a guide with ignore_eos"):
        engine().add(guided(0, ignore_eos=True))
