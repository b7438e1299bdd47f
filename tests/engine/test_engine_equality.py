"""Tokens do not depend on how the work is cut: batch, chunk, page size, prefix cache, preemption, neighbours."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_device import FakeDevice, toy_logits
from generation import engine, expected_greedy, generate, prompt, run, tokens

from kvscape.engine import Request, SamplingParams
from kvscape.engine.draws import distribution, drawn, uniform

PROMPTS = [prompt(seed, length) for seed, length in enumerate([1, 17, 5, 40, 33, 16, 2, 9])]
EXPECTED = [expected_greedy(one, 30) for one in PROMPTS]
GREEDY = SamplingParams(max_tokens=30)
SAMPLED = SamplingParams(
    max_tokens=30, temperature=0.9, top_k=20, top_p=0.95, seed=7, repetition_penalty=1.2, frequency_penalty=0.3
)


LONG = prompt(99, 48)
SHARED = [LONG[:33], LONG[:48], LONG[:20], (*LONG[:24], *prompt(98, 9)), (*prompt(97, 16), *LONG[16:]), LONG[:33]]
SHARED_EXPECTED = [expected_greedy(one, 20) for one in SHARED]


def requests(params: SamplingParams = GREEDY) -> list[Request]:
    return [Request(str(index), one, params) for index, one in enumerate(PROMPTS)]


def answers(params: SamplingParams = GREEDY, **knobs: int) -> list[list[int]]:
    outputs = run(engine(FakeDevice(), **knobs), requests(params))
    return [tokens(outputs[str(index)]) for index in range(len(PROMPTS))]


def test_the_expected_answers_are_worth_comparing() -> None:
    assert len({tuple(answer) for answer in EXPECTED}) == len(EXPECTED)
    assert sum(map(len, EXPECTED)) > 100


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 16, 512])
@pytest.mark.parametrize("page_size", [1, 4, 16, 32])
def test_greedy_tokens_are_the_models_own(batch: int, chunk: int, page_size: int) -> None:
    assert answers(max_batch_size=batch, prefill_chunk_size=chunk, page_size=page_size) == EXPECTED


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_preemption_changes_no_token(chunk: int, page_size: int, prefix_cache: bool) -> None:
    target = engine(
        max_batch_size=4,
        prefill_chunk_size=chunk,
        page_size=page_size,
        max_total_sequence_length=80,
        prefix_cache=prefix_cache,
    )
    outputs = run(target, requests())
    assert [tokens(outputs[str(index)]) for index in range(len(PROMPTS))] == EXPECTED
    assert target.metrics.preemptions > 0


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("chunk", [1, 5, 512])
@pytest.mark.parametrize("page_size", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("pool", [96, 1024])
def test_common_beginnings_change_no_token(batch: int, chunk: int, page_size: int, pool: int) -> None:
    """The second round finds what the first one left, where the pool has room for it; one of its neighbours leaves."""
    target = engine(max_batch_size=batch, prefill_chunk_size=chunk, page_size=page_size, max_total_sequence_length=pool)
    for turn in range(2):
        several = [Request(f"{turn} {i}", one, SamplingParams(max_tokens=20)) for i, one in enumerate(SHARED)]
        target.add(Request(f"{turn} leaves", LONG, GREEDY))
        target.step()
        target.cancel(f"{turn} leaves")
        outputs = run(target, several)
        assert [tokens(outputs[one.request_id]) for one in several] == SHARED_EXPECTED
    assert target.metrics.prefix_cache_hits > 0
    assert all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_samples_do_not_depend_on_batch_chunk_or_preemption() -> None:
    alone = answers(SAMPLED)
    assert alone != EXPECTED
    assert answers(SAMPLED, max_batch_size=4, prefill_chunk_size=3) == alone
    assert answers(SAMPLED, max_batch_size=4, page_size=4, max_total_sequence_length=80) == alone
    assert answers(SAMPLED, prefix_cache=False) == alone


@pytest.mark.parametrize("pool", [80, 1024])
def test_cancelled_neighbours_change_no_token(pool: int) -> None:
    target = engine(max_batch_size=4, prefill_chunk_size=8, page_size=4, max_total_sequence_length=pool)
    for request in requests():
        target.add(request)
    got: dict[str, list[int]] = {}
    for step in range(10**6):
        if not target.has_work:
            break
        for output in target.step():
            got.setdefault(output.request_id, []).extend(output.token_ids)
        if step in (2, 5, 9):
            target.cancel(str(step % 4))
    kept = [index for index in range(len(PROMPTS)) if index not in (1, 2)]
    assert [got[str(index)] for index in kept] == [EXPECTED[index] for index in kept]


def test_greedy_and_sampled_neighbours_do_not_mix() -> None:
    alone = answers(SAMPLED)
    mixed = [Request(str(i), one, SAMPLED if i % 2 else GREEDY) for i, one in enumerate(PROMPTS)]
    outputs = run(engine(max_batch_size=4, prefill_chunk_size=8), mixed)
    for index in range(len(PROMPTS)):
        assert tokens(outputs[str(index)]) == (alone if index % 2 else EXPECTED)[index]


@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_score_is_the_log_softmax_of_the_model(chunk: int) -> None:
    text = prompt(3, 60)
    logits = np.stack([toy_logits(text[:length]) for length in range(1, 60)]).astype(np.float64)
    expected = logits[np.arange(59), text[1:]] - np.log(np.exp(logits).sum(axis=1))
    scores = engine(prefill_chunk_size=chunk, page_size=4).score(text)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize(("chunk", "rows"), [(1, [1] * 59), (25, [25, 25, 9]), (512, [59])])
def test_distributions_are_the_models_own_logits_chunk_by_chunk(chunk: int, rows: list[int]) -> None:
    text = prompt(3, 60)
    expected = np.stack([toy_logits(text[:length]) for length in range(1, 60)])
    chunks = [part.copy() for part in engine(prefill_chunk_size=chunk, page_size=4).distributions(text)]
    assert [len(part) for part in chunks] == rows
    np.testing.assert_array_equal(np.concatenate(chunks), expected)


def test_a_score_comes_chunk_by_chunk() -> None:
    parts = list(engine(prefill_chunk_size=16).score_chunks(prompt(3, 60)))
    assert [len(part) for part in parts] == [16, 16, 16, 11]
    np.testing.assert_array_equal(np.concatenate(parts), engine().score(prompt(3, 60)))


def test_leaving_distributions_early_frees_the_engine() -> None:
    target = engine(prefill_chunk_size=4)
    parts = target.distributions(prompt(3, 60))
    next(parts)
    with pytest.raises(RuntimeError, match="idle"):
        target.score(PROMPTS[3])
    parts.close()  # type: ignore[attr-defined]
    assert not target.has_work and all(pool.num_free == pool.num_pages for pool in target.cache.allocators)


def test_logits_of_a_preempted_prompt_come_once_beside_its_answer() -> None:
    target = engine(max_batch_size=2, prefill_chunk_size=3, page_size=4, max_total_sequence_length=80)
    long_answer = Request("long", prompt(0, 16), SamplingParams(max_tokens=60, ignore_eos=True))
    target.add(long_answer)
    both = Request("both", prompt(1, 40), SamplingParams(max_tokens=20, n=2), prompt_logprobs=True, prompt_logits=True)
    target.add(both)
    parts = []
    while target.has_work:
        parts += [out.prompt_logits.copy() for out in target.step() if out.prompt_logits is not None]
    assert target.metrics.preemptions > 0
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(list(engine().distributions(prompt(1, 40)))))


def test_scores_beside_generation_survive_preemption() -> None:
    target = engine(max_batch_size=2, prefill_chunk_size=3, page_size=4, max_total_sequence_length=80)
    long_answer = Request("long", prompt(0, 16), SamplingParams(max_tokens=60, ignore_eos=True))
    scoring = Request("score", prompt(1, 60), SamplingParams(max_tokens=0), prompt_logprobs=True)
    outputs = run(target, [long_answer, scoring])
    assert target.metrics.preemptions > 0
    scores = outputs["score"][-1].prompt_logprobs
    assert scores is not None
    np.testing.assert_array_equal(scores, engine().score(scoring.prompt_token_ids))


def test_one_request_can_be_scored_and_continued() -> None:
    request = Request("both", PROMPTS[3], GREEDY, prompt_logprobs=True)
    outputs = run(engine(prefill_chunk_size=7), [request])["both"]
    scores = outputs[-1].prompt_logprobs
    assert scores is not None
    np.testing.assert_array_equal(scores, engine().score(PROMPTS[3]))
    assert tokens(outputs) == EXPECTED[3]


def test_scores_stay_the_prompts_own_when_the_answer_is_preempted() -> None:
    target = engine(max_batch_size=2, page_size=4, max_total_sequence_length=80)
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    both = [
        Request(name, prompt(length, length), params, prompt_logprobs=True) for name, length in (("a", 20), ("b", 30))
    ]
    outputs = run(target, both)
    assert target.metrics.preemptions > 0
    for request in both:
        scores = outputs[request.request_id][-1].prompt_logprobs
        assert scores is not None
        np.testing.assert_array_equal(scores, engine().score(request.prompt_token_ids))


def test_a_score_computes_no_more_than_it_needs() -> None:
    device = FakeDevice()
    request = Request("score", prompt(0, 20), SamplingParams(max_tokens=0), prompt_logprobs=True)
    (output,) = run(engine(device), [request])["score"]
    assert (output.token_ids, output.finish_reason) == ((), "length")
    assert [len(step.token_ids) for step in device.steps] == [19]


def test_samples_are_drawn_from_the_models_own_distribution() -> None:
    sequence = list(PROMPTS[3])
    for position in range(len(sequence), len(sequence) + 30):
        logits = toy_logits(sequence).astype(np.float64)
        for token in set(sequence):
            logits[token] *= 1 / 1.2 if logits[token] > 0 else 1.2
            logits[token] -= 0.3 * sequence[len(PROMPTS[3]) :].count(token)
        token_ids, probabilities = distribution(logits, SAMPLED)
        sequence.append(int(token_ids[drawn(probabilities, uniform(SAMPLED.seed, position))]))
    got = tokens(generate(engine(), PROMPTS[3], replace(SAMPLED, ignore_eos=True)))
    assert got == sequence[len(PROMPTS[3]) :]


def test_logits_are_computed_only_where_they_are_needed() -> None:
    device = FakeDevice()
    generate(engine(device, prefill_chunk_size=16), PROMPTS[3], SamplingParams(max_tokens=3, ignore_eos=True))
    assert [len(step.logit_rows) for step in device.steps] == [0, 0, 1, 1, 1]
    assert device.fetched_rows == 0


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.0}, {"repetition_penalty": 1.0}, {"logit_bias": ((0, 1.0),)}, {"logprobs": 3}]
)
def test_no_logits_come_to_the_host(fields: dict[str, Any]) -> None:
    device, params = FakeDevice(), replace(SAMPLED, ignore_eos=True, **fields)
    outputs = run(engine(device), [Request("one", PROMPTS[3], params, prompt_logprobs=True)])["one"]
    assert (len(tokens(outputs)), device.drawn_tokens, device.fetched_rows) == (30, 30, 0)
    assert outputs[-1].prompt_logprobs is not None and len(outputs[-1].prompt_top_logprobs) == (
        39 if "logprobs" in fields else 0
    )
