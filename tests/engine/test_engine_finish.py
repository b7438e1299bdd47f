"""When answers end, and what a request that does not fit is told."""

import pytest
from fake_device import EOS, FakeDevice
from generation import engine, expected_greedy, generate, prompt, run, tokens

from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.errors import CapacityError, ConfigError


class Letters:
    """A detokenizer that shows each token as a letter, one step late."""

    def __init__(self) -> None:
        self._late = ""

    def add(self, token_id: int) -> str:
        late, self._late = self._late, chr(ord("A") + token_id)
        return late

    def finish(self) -> str:
        return self._late


def letters(token_ids: list[int]) -> str:
    return "".join(chr(ord("A") + token_id) for token_id in token_ids)


def prompt_with_long_answer(length: int) -> tuple[int, ...]:
    return next(one for seed in range(1000) if len(expected_greedy(one := prompt(seed, length), 60)) == 60)


def test_end_of_sequence_stops() -> None:
    one = next(one for seed in range(1000) if expected_greedy(one := prompt(seed, 4), 40)[-1] == EOS)
    outputs = generate(engine(), one, SamplingParams(max_tokens=100))
    assert tokens(outputs) == expected_greedy(one, 40)
    assert [output.finish_reason for output in outputs] == [None] * (len(outputs) - 1) + ["stop"]
    assert len(tokens(generate(engine(), one, SamplingParams(max_tokens=100, ignore_eos=True)))) == 100


def test_max_tokens_ends_with_length() -> None:
    outputs = generate(engine(), prompt(0, 4), SamplingParams(max_tokens=5, ignore_eos=True))
    assert len(tokens(outputs)) == 5
    assert outputs[-1].finish_reason == "length"


def test_the_context_window_ends_with_length() -> None:
    outputs = generate(engine(context_window_size=32), prompt(0, 20), SamplingParams(max_tokens=100, ignore_eos=True))
    assert len(tokens(outputs)) == 12
    assert outputs[-1].finish_reason == "length"


@pytest.mark.parametrize("page_size", [1, 8, 16])
def test_a_lone_sequence_fills_the_cache_to_its_last_token(page_size: int) -> None:
    device = FakeDevice()
    target = engine(device, max_total_sequence_length=64, page_size=page_size)
    outputs = generate(target, prompt(0, 20), SamplingParams(max_tokens=100, ignore_eos=True))
    assert device.steps[-1].kv_lengths == [64]
    assert len(tokens(outputs)) == 64 - 20 + 1
    assert outputs[-1].finish_reason == "length"
    assert target.metrics.preemptions == 0


def test_a_prompt_longer_than_the_context_is_turned_away() -> None:
    target = engine(context_window_size=32)
    with pytest.raises(CapacityError, match="the prompt has 32 tokens: at most 31 fit in the context window; shorten"):
        target.add(Request("long", prompt(0, 32)))
    assert not target.has_work
    assert len(target.score(prompt(0, 32))) == 31
    with pytest.raises(CapacityError, match="at most 32 fit"):
        target.score(prompt(0, 33))


def test_a_prompt_longer_than_the_cache_is_turned_away() -> None:
    target = engine(max_total_sequence_length=48)
    with pytest.raises(CapacityError, match="at most 48 fit in the KV cache; shorten it or raise max_total"):
        target.add(Request("long", prompt(0, 49)))
    outputs = generate(target, prompt(0, 48), SamplingParams(ignore_eos=True))
    assert len(tokens(outputs)) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("a", ()), "the prompt is empty"),
        (Request("a", (5, 40)), "token 40 in the prompt: the vocabulary has 40"),
        (Request("a", (-1,)), "token -1 in the prompt"),
        (Request("a", (5,), SamplingParams(max_tokens=0)), "max_tokens = 0"),
        (Request("a", (5,), SamplingParams(max_tokens=0), True), "one token has no score"),
        (Request("a", (5, 6), SamplingParams(max_tokens=0, n=2), True), "n = 2: a score has no choices"),
        (Request("a", (5,), SamplingParams(stop=("x",))), "stop strings need text"),
        (Request("there", (5,)), "request 'there' is already there"),
    ],
)
def test_requests_that_make_no_sense_are_turned_away(request_: Request, message: str) -> None:
    target = engine()
    target.add(Request("there", (5,)))
    with pytest.raises(ConfigError, match=message):
        target.add(request_)


def test_text_ends_before_the_stop_string() -> None:
    one = prompt_with_long_answer(4)
    answer = letters(expected_greedy(one, 60))
    stop = answer[20:23]
    target = Engine(FakeDevice(), EngineConfig(), Letters)
    outputs = generate(target, one, SamplingParams(stop=(stop, "never")))
    assert "".join(output.text for output in outputs) == answer[: answer.index(stop)]
    assert outputs[-1].finish_reason == "stop"
    # the detokenizer is one token late
    assert len(tokens(outputs)) == answer.index(stop) + len(stop) + 1


def test_text_is_complete_without_a_stop() -> None:
    one = prompt_with_long_answer(4)
    answer = letters(expected_greedy(one, 60))
    held = answer[58:60] + "never"
    outputs = generate(Engine(FakeDevice(), EngineConfig(), Letters), one, SamplingParams(max_tokens=60, stop=(held,)))
    assert "".join(output.text for output in outputs) == answer
    assert outputs[-1].finish_reason == "length"


def test_a_request_may_bring_its_own_detokenizer() -> None:
    one = prompt_with_long_answer(4)
    answer = letters(expected_greedy(one, 60))
    own = Request("own", one, SamplingParams(max_tokens=60, stop=(answer[20:23],)), detokenizer=Letters)
    assert "".join(output.text for output in run(engine(), [own])["own"]) == answer[: answer.index(answer[20:23])]


def test_the_end_of_sequence_token_has_no_text() -> None:
    one = next(one for seed in range(1000) if expected_greedy(one := prompt(seed, 4), 40)[-1] == EOS)
    outputs = generate(Engine(FakeDevice(), EngineConfig(), Letters), one, SamplingParams(max_tokens=100))
    assert "".join(output.text for output in outputs) == letters(expected_greedy(one, 40)[:-1])


def test_cancel_frees_the_pages_and_says_so() -> None:
    target = engine(max_batch_size=1)
    for name in ("running", "waiting"):
        target.add(Request(name, prompt(0, 20), SamplingParams(ignore_eos=True)))
    target.step()
    for name in ("running", "waiting"):
        (output,) = target.cancel(name)
        assert (output.request_id, output.finish_reason, output.token_ids) == (name, "cancelled", ())
    assert not target.has_work
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)
    assert target.cancel("running") == []
    assert target.step() == []


def test_a_failed_step_can_be_taken_again() -> None:
    class Interrupted(FakeDevice):
        def greedy(self, logits):  # type: ignore[no-untyped-def]
            if len(self.steps) == 3:
                raise KeyboardInterrupt
            return super().greedy(logits)

    target = engine(Interrupted())
    target.add(Request("one", prompt_with_long_answer(4), SamplingParams(max_tokens=10)))
    got = []
    while target.has_work:
        try:
            got += tokens(target.step())
        except KeyboardInterrupt:
            continue
    assert got == expected_greedy(prompt_with_long_answer(4), 10)


def test_a_failed_score_leaves_nothing_behind() -> None:
    class Broken(FakeDevice):
        def logprobs(self, logits, token_ids):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    target = engine(Broken())
    with pytest.raises(KeyboardInterrupt):
        target.score(prompt(0, 20))
    assert not target.has_work
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_score_asks_for_an_idle_engine() -> None:
    target = engine()
    target.add(Request("one", (5,)))
    with pytest.raises(RuntimeError, match="idle"):
        target.score((5, 6))


def test_logprobs_come_with_each_token() -> None:
    outputs = generate(engine(), prompt(0, 4), SamplingParams(max_tokens=5, ignore_eos=True, logprobs=3))
    for output in outputs:
        (logprob,) = output.logprobs
        assert logprob.token_id == output.token_ids[0] == logprob.top[0][0]
        assert logprob.logprob == logprob.top[0][1] and len(logprob.top) == 3
    chosen = [output.logprobs[0].logprob for output in outputs]
    scores = engine().score((*prompt(0, 4), *tokens(outputs)))
    assert chosen == pytest.approx(scores[3:].tolist(), rel=1e-6)


def test_metrics_count_work_and_time() -> None:
    ticks = iter(range(1000))
    target = Engine(FakeDevice(), EngineConfig(prefill_chunk_size=16), clock=lambda: float(next(ticks)))
    output = run(target, [Request("one", prompt(0, 40), SamplingParams(max_tokens=4, ignore_eos=True))])["one"][-1]
    assert output.metrics is not None
    assert output.metrics.ttft_s == 1 and output.metrics.e2e_s == 5
    assert output.metrics.itl_s == [1, 1, 1] and output.metrics.tpot_s == pytest.approx(4 / 3)
    counted = target.metrics
    assert (counted.steps, counted.computed_tokens, counted.generated_tokens) == (6, 43, 4)
    assert (counted.preemptions, counted.finished_requests) == (0, 1)
