"""What an answer tells beside its tokens: the likeliest tokens of its prompt, and how much of that was cached."""

import numpy as np
from generation import engine, prompt, run

from kvscape.engine import Request, SamplingParams

PROMPT = prompt(1, 40)


def test_the_likeliest_tokens_stand_beside_each_of_the_prompts_even_when_it_is_preempted() -> None:
    target = engine(max_batch_size=2, prefill_chunk_size=3, page_size=4, max_total_sequence_length=80)
    long_answer = Request("long", prompt(0, 16), SamplingParams(max_tokens=60, ignore_eos=True))
    scored = Request("scored", PROMPT, SamplingParams(max_tokens=20, n=2, logprobs=2), prompt_logprobs=True)
    outputs = run(target, [long_answer, scored])["scored"]
    assert target.metrics.preemptions > 0
    first, second = (next(one for one in outputs if one.finish_reason and one.index == index) for index in (0, 1))
    rows = np.concatenate(list(engine().distributions(PROMPT))).astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for row, top in zip(logprobs, first.prompt_top_logprobs, strict=True):
        assert [token for token, _ in top] == np.argsort(-row, kind="stable")[:2].tolist()
        np.testing.assert_allclose([logprob for _, logprob in top], np.sort(row)[:-3:-1], atol=1e-6)
    assert second.prompt_top_logprobs == ()


def test_a_score_alone_has_none() -> None:
    request = Request("score", PROMPT, SamplingParams(max_tokens=0), prompt_logprobs=True)
    assert run(engine(), [request])["score"][-1].prompt_top_logprobs == ()


def test_cached_tokens_are_those_that_were_there() -> None:
    target = engine(page_size=16)
    told = []
    for name in ("first", "second"):
        metrics = run(target, [Request(name, PROMPT, SamplingParams(max_tokens=2))])[name][-1].metrics
        assert metrics is not None
        told.append(metrics.cached_tokens)
    assert told == [0, 32]
