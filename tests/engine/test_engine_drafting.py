"""Speculation changes no token: whatever is drafted, the answer is that of plain decoding, and pages come back."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from fake_device import EOS, FakeDevice, TwoGroups, toy_logits, toy_model
from generation import engine, expected_greedy, prompt, run

from kvscape.config import EngineConfig, Window
from kvscape.engine import Engine, Output, Request, SamplingParams
from kvscape.engine.drafting import agreeing
from kvscape.engine.prompt_lookup import PromptLookup
from kvscape.errors import ConfigError

VOCAB = 5
"""So few that a random model repeats itself, and drafts are often right."""

PROMPTS = [prompt(seed, length, VOCAB) for seed, length in enumerate([4, 17, 40, 16])]
LONG = SamplingParams(max_tokens=24, ignore_eos=True)
PARAMS = {
    "greedy": LONG,
    "ends": SamplingParams(max_tokens=24, logit_bias=((EOS, -3.0),)),
    "sampled": replace(LONG, temperature=0.9, top_k=4, top_p=0.95, seed=7),
    "penalties": replace(LONG, repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=0.2),
    "sampled penalties": replace(LONG, temperature=1.2, repetition_penalty=1.2, frequency_penalty=0.3, seed=3),
    "logprobs": replace(LONG, logprobs=3),
    "bias": replace(LONG, logit_bias=((3, 1.0), (2, -0.5))),
    "stop": replace(LONG, stop=("CDC", "EEE")),
    "choices": replace(LONG, temperature=1.0, n=3, seed=11),
}
KNOBS: dict[str, dict[str, Any]] = {
    "alone": {},
    "batched": {"max_batch_size": 4},
    "small pages": {"max_batch_size": 2, "page_size": 1},
    "small chunks": {"max_batch_size": 3, "prefill_chunk_size": 5, "page_size": 4},
    "preempted": {"max_batch_size": 4, "page_size": 4, "max_total_sequence_length": 84},
    "no prefix cache": {"max_batch_size": 4, "prefix_cache": False, "page_size": 8},
    "window": {"max_batch_size": 3, "page_size": 4, "sliding_window_size": 24, "prefill_chunk_size": 16},
    "window and sinks": {"max_batch_size": 3, "page_size": 4, "sliding_window_size": 24, "attention_sink_size": 5},
    "int4": {"max_batch_size": 3, "kv_dtype": "int4", "page_size": 8},
    "int4, window": {"max_batch_size": 2, "kv_dtype": "int4", "page_size": 8, "sliding_window_size": 40},
    "int4, preempted": {"max_batch_size": 4, "kv_dtype": "int4", "page_size": 8, "max_total_sequence_length": 96},
}  # fmt: skip


class Letters:
    """A detokenizer that shows each token as a letter, one step late."""

    def __init__(self) -> None:
        self._late = ""

    def add(self, token_id: int) -> str:
        late, self._late = self._late, chr(ord("A") + token_id)
        return late

    def finish(self) -> str:
        return self._late


def small(**knobs: Any) -> Engine:
    device = FakeDevice(toy_model(VOCAB))
    return Engine(device, EngineConfig(**{"context_window_size": 128, **knobs}), Letters)


Told = tuple[list[int], str, list[Any], str | None]


def told(outputs: list[Output]) -> dict[int, Told]:
    """All that a reader sees of each choice."""
    return {
        index: (
            [token for one in mine for token in one.token_ids],
            "".join(one.text for one in mine),
            [entry for one in mine for entry in one.logprobs],
            mine[-1].finish_reason,
        )
        for index in sorted({one.index for one in outputs})
        for mine in [[one for one in outputs if one.index == index]]
    }


Answers = list[dict[int, Told]]


def answers(target: Engine, params: SamplingParams, turn: int = 0) -> Answers:
    """What the prompts are answered, all pages being free behind them."""
    requests = [Request(f"{turn} {index}", one, params) for index, one in enumerate(PROMPTS)]
    outputs = run(target, requests)
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
    assert sorted(target.cache.free_tails) == list(range(target.config.max_batch_size))
    return [told(outputs[one.request_id]) for one in requests]


@cache
def plain(params: str, window: int, sinks: int) -> Answers:
    """What they are answered one after the other, without drafts and prefix cache."""
    return answers(small(sliding_window_size=window, attention_sink_size=sinks, prefix_cache=False), PARAMS[params])


CASES = [
    *((knobs, "sampled penalties") for knobs in KNOBS),
    *((knobs, "greedy") for knobs in ("alone", "small pages", "window and sinks", "int4, window")),
    *((knobs, params) for params in PARAMS for knobs in ("batched", "int4, preempted")),
    ("window and sinks", "choices"),
    ("small chunks", "stop"),
]


@pytest.mark.parametrize(("knobs", "params"), sorted(set(CASES)))
def test_drafts_change_nothing_that_a_reader_sees(knobs: str, params: str) -> None:
    """The second turn begins with pages of the first one."""
    target = small(**KNOBS[knobs], prompt_lookup_tokens=4)
    expected = plain(params, target.config.sliding_window_size, target.config.attention_sink_size)
    assert [answers(target, PARAMS[params], turn) for turn in range(2)] == [expected] * 2
    metrics = target.metrics
    assert 0 < metrics.accepted_tokens < metrics.drafted_tokens
    assert (metrics.preemptions > 0) == ("preempted" in knobs)


def test_windows_and_settings_give_answers_of_their_own() -> None:
    windows = [(-1, 0), (24, 0), (24, 5), (40, 0)]
    assert len({repr(plain("greedy", *window)) for window in windows}) == len(windows)
    assert len({repr(plain(params, -1, 0)) for params in PARAMS}) == len(PARAMS)


def test_each_accepted_token_saves_a_step() -> None:
    drafting, without = (small(prompt_lookup_tokens=drafted) for drafted in (4, 0))
    assert answers(drafting, LONG) == answers(without, LONG)
    assert drafting.metrics.steps == without.metrics.steps - drafting.metrics.accepted_tokens
    assert drafting.metrics.generated_tokens == without.metrics.generated_tokens


def oracle(
    right: float, vocab_size: int, window: Window | None = None
) -> Callable[[PromptLookup, list[int], int], list[int]]:
    """Drafts the model's own greedy tokens, each one with probability ``right``."""
    random = np.random.default_rng(0)

    def draft(lookup: PromptLookup, token_ids: list[int], most: int) -> list[int]:
        sequence = list(token_ids)
        for _ in range(int(random.integers(0, most + 1))):
            best = int(toy_logits(sequence, vocab_size, window).argmax())
            sequence.append(best if random.random() < right else int(random.integers(0, vocab_size)))
        return sequence[len(token_ids) :]

    return draft


@pytest.mark.parametrize("right", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kv_dtype", ["f16", "int4"])
@pytest.mark.parametrize("drafted", [1, 7, 100])
def test_any_draft_gives_the_models_own_tokens(
    monkeypatch: pytest.MonkeyPatch, right: float, kv_dtype: str, drafted: int
) -> None:
    monkeypatch.setattr(PromptLookup, "draft", oracle(right, 40))
    prompts = [prompt(seed, 5 + 9 * seed) for seed in range(4)]
    knobs: dict[str, Any] = {"max_batch_size": 3, "page_size": 4, "kv_dtype": kv_dtype, "prefill_chunk_size": 32}
    target = engine(**knobs, prompt_lookup_tokens=drafted)
    outputs = run(target, [Request(str(i), one, SamplingParams(max_tokens=50)) for i, one in enumerate(prompts)])
    for index, one in enumerate(prompts):
        assert told(outputs[str(index)])[0][0] == expected_greedy(one, 50)
    if right == 1.0:
        assert target.metrics.accepted_tokens == target.metrics.drafted_tokens
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


@pytest.mark.parametrize("kv_dtype", ["f16", "int4"])
def test_a_lone_sequence_fills_the_cache_to_its_last_token(monkeypatch: pytest.MonkeyPatch, kv_dtype: str) -> None:
    monkeypatch.setattr(PromptLookup, "draft", oracle(0.8, 40))
    params = SamplingParams(max_tokens=100, ignore_eos=True)
    knobs: dict[str, Any] = {"max_total_sequence_length": 64, "page_size": 8, "kv_dtype": kv_dtype}
    answer = {}
    for drafted in (0, 6):
        device = FakeDevice()
        outputs = run(engine(device, **knobs, prompt_lookup_tokens=drafted), [Request("one", prompt(0, 20), params)])
        answer[drafted] = told(outputs["one"])[0]
        assert max(length for step in device.steps for length in step.kv_lengths) == 64
    assert answer[6] == answer[0] and answer[0][3] == "length" and len(answer[0][0]) == 64 - 20 + 1


def test_the_last_tokens_are_not_drafted_beyond_the_answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "draft", lambda _, token_ids, most: [2] * most)
    device = FakeDevice()
    target = engine(device, prompt_lookup_tokens=8)
    run(target, [Request("one", prompt(0, 20), SamplingParams(max_tokens=12, ignore_eos=True))])
    assert max(length for step in device.steps for length in step.kv_lengths) == 20 + 12 - 1


def test_drafts_take_what_the_budget_leaves_and_delay_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "draft", lambda _, token_ids, most: [2] * most)
    device = FakeDevice()
    target = engine(device, max_batch_size=3, prefill_chunk_size=16, prompt_lookup_tokens=100)
    requests = [Request(str(i), prompt(i, 16), SamplingParams(max_tokens=24, ignore_eos=True)) for i in range(3)]
    run(target, requests)
    assert max(len(step.token_ids) for step in device.steps) == 16
    assert [len(step.token_ids) for step in device.steps[:3]] == [16, 16, 16]
    assert [step.kv_lengths[-1] for step in device.steps[:3]] == [16, 15, 14], "prompts come before drafts"


def test_a_rejected_draft_leaves_no_page_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "draft", oracle(0.0, 40))
    target = engine(page_size=1, prompt_lookup_tokens=10)
    target.add(Request("one", prompt(0, 9), LONG))
    seen = 0
    while target.has_work:
        if seen := seen + len(target.step()):
            held = {pool.num_pages - pool.num_free for pool in target.cache.allocators}
            assert held in ({9 + seen - 1}, {0})


def test_pages_that_fell_out_of_the_window_go_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    knobs: dict[str, Any] = {"sliding_window_size": 16, "page_size": 4, "prefill_chunk_size": 8}
    monkeypatch.setattr(PromptLookup, "draft", oracle(1.0, 40, Window(0, 16)))
    target = engine(**knobs, prompt_lookup_tokens=7)
    target.add(Request("one", prompt(0, 30), replace(LONG, max_tokens=100)))
    while target.has_work:
        target.step()
        held = max(pool.num_pages - pool.num_free for pool in target.cache.allocators)
        assert held <= target.cache.windows[0].most_pages(256, 1, 4)
    assert target.metrics.accepted_tokens > 60


def test_pages_that_a_draft_filled_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "draft", oracle(0.9, 40))
    hits = []
    for drafted in (0, 6):
        target = engine(page_size=4, prompt_lookup_tokens=drafted)
        (first,) = run(target, [Request("first", prompt(0, 9), LONG)]).values()
        run(target, [Request("second", prompt(0, 9) + tuple(told(first)[0][0]), LONG)])
        hits.append(target.metrics.prefix_cache_hits)
    assert hits[0] == hits[1] == (9 + 24 - 1) // 4 * 4


def test_a_guided_answer_is_not_drafted_and_its_neighbour_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_engine_guide import expected, guided

    monkeypatch.setattr(PromptLookup, "draft", oracle(0.8, 40))
    target = engine(max_batch_size=2, prompt_lookup_tokens=4)
    outputs = run(target, [guided(0), Request("free", prompt(5, 9), LONG)])
    assert told(outputs["0"])[0][0] == expected(0) and target.metrics.accepted_tokens > 0


@pytest.mark.parametrize("params", [LONG, PARAMS["sampled penalties"]], ids=["text", "sampler"])
def test_what_fails_while_a_draft_is_decided_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch, params: SamplingParams
) -> None:
    from kvscape.engine import model_runner
    from kvscape.engine.sampler import wanted_draw

    class Failing(Letters):
        number = 0

        def add(self, token_id: int) -> str:
            self.number += 1
            if self.number == 10:
                raise LookupError("text")
            return super().add(token_id)

    def poisoned(row: int, sequence: Any, ahead: int) -> Any:
        if sequence.request_id == "bad" and ahead > 0 and len(sequence.token_ids) > 30:
            raise ArithmeticError("sampler")
        return wanted_draw(row, sequence, ahead)

    alone = told(run(small(max_batch_size=2), [Request("well", PROMPTS[1], params)])["well"])
    if params is not LONG:
        monkeypatch.setattr(model_runner, "wanted_draw", poisoned)
    bad = Request("bad", PROMPTS[1], params, detokenizer=Failing if params is LONG else None)
    target = small(max_batch_size=2, prompt_lookup_tokens=4)
    outputs = run(target, [bad, Request("well", PROMPTS[1], params)])
    assert told(outputs["well"]) == alone and outputs["bad"][-1].finish_reason == "error"
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_a_failed_step_can_be_taken_again() -> None:
    class Interrupted(FakeDevice):
        def greedy(self, logits: Any) -> list[int]:
            if len(self.steps) in (3, 6, 7):
                raise KeyboardInterrupt
            return super().greedy(logits)

    target = Engine(Interrupted(toy_model(VOCAB)), EngineConfig(prompt_lookup_tokens=4), Letters)
    target.add(Request("one", PROMPTS[2], LONG))
    outputs: list[Output] = []
    while target.has_work:
        try:
            outputs += target.step()
        except KeyboardInterrupt:
            continue
    assert told(outputs) == told(run(small(), [Request("one", PROMPTS[2], LONG)])["one"])


def test_lookup_finds_the_newest_place_of_the_longest_n_gram() -> None:
    def draft(text: str, most: int) -> str:
        return "".join(map(chr, PromptLookup().draft(list(map(ord, text)), most)))

    assert draft("abcdeabc", 3) == "dea"
    assert draft("abcx abcy abc", 2) == "y "
    assert draft("zbcx abcy zbc", 1) == "x", "three before two"
    assert draft("abcd.bc", 2) == "d.", "two where three are nowhere"
    assert draft("abcdefg", 4) == draft("ab", 4) == draft("a", 4) == draft("abca", 3) == ""
    assert draft("xyxyxy", 7) == "xyxyxyx", "a period goes on"
    assert draft("aaa", 5) == "aaaaa"


def test_lookup_that_grows_knows_what_a_fresh_one_knows() -> None:
    text, growing = prompt(0, 300, 6), PromptLookup()
    for length in range(1, 300):
        token_ids = list(text[:length])
        assert growing.draft(token_ids, 5) == PromptLookup().draft(token_ids, 5)


@pytest.mark.parametrize(
    ("chosen", "draft", "kept"),
    [([5, 6, 7], [5, 6], [5, 6, 7]), ([5, 6, 7], [5, 9], [5, 6]), ([5, 6, 7], [9, 6], [5]), ([5], [], [5])],
)
def test_chosen_tokens_are_kept_up_to_the_first_that_was_not_drafted(
    chosen: list[int], draft: list[int], kept: list[int]
) -> None:
    assert agreeing([(token, None) for token in chosen], draft) == [(token, None) for token in kept]


def test_a_negative_number_of_drafts_is_refused() -> None:
    with pytest.raises(ConfigError, match="prompt_lookup_tokens = -1: it must be at least 0; use 0 for none"):
        EngineConfig(prompt_lookup_tokens=-1)


def test_plain_engines_have_the_plain_workers() -> None:
    from kvscape.engine.model_runner import ModelRunner
    from kvscape.engine.scheduler import Scheduler

    target = engine()
    assert type(target.__dict__["_scheduler"]) is Scheduler and type(target.__dict__["_runner"]) is ModelRunner
    assert isinstance(toy_model(), TwoGroups)
