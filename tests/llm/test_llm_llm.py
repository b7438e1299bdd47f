"""The facade on a tiny compiled model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvscape import LLM, SamplingParams
from kvscape.analysis.memory import kv_cache_bytes, predict_memory
from kvscape.config import KV_DTYPES
from kvscape.errors import CapacityError, ConfigError, DeviceError, KvscapeError
from kvscape.tokenizer import ChatTemplate, Message
from tiny import CHAT_TEMPLATE

PROMPTS = ["the thing", "in and on", "a wing", "here or there, or anywhere at all"]
GREEDY = SamplingParams(max_tokens=12, ignore_eos=True)
CONVERSATION: list[Message] = [{"role": "user", "content": "the thing?"}]


@pytest.fixture(scope="module")
def llm(open_llm: Callable[..., LLM], tiny_gguf: Path) -> Iterator[LLM]:
    with open_llm(tiny_gguf, max_batch_size=4) as llm:
        yield llm


@pytest.fixture
def opened(open_llm: Callable[..., LLM], tiny_gguf: Path) -> Iterator[Callable[..., LLM]]:
    """Open the tiny model anew; closed at the end."""
    llms: list[LLM] = []

    def opened(**fields: object) -> LLM:
        llms.append(open_llm(tiny_gguf, **fields))
        return llms[-1]

    yield opened
    for llm in llms:
        llm.close()


def test_one_prompt_gives_one_completion(llm: LLM) -> None:
    completion = llm.generate(PROMPTS[0], GREEDY)
    assert list(completion.prompt_token_ids) == llm.tokenizer.encode(PROMPTS[0], add_bos=True)
    assert completion.text == llm.tokenizer.decode(completion.token_ids)
    assert (len(completion.token_ids), completion.finish_reason) == (12, "length")
    assert len(completion.metrics.token_times_s) == 12


def test_many_prompts_are_answered_in_their_order_and_as_if_alone(llm: LLM) -> None:
    together = llm.generate(PROMPTS, GREEDY)
    assert [(c.token_ids, c.text) for c in together] == [
        (alone.token_ids, alone.text) for alone in (llm.generate(prompt, GREEDY) for prompt in PROMPTS)
    ]
    assert len({c.token_ids for c in together}) == len(PROMPTS)
    assert llm.generate([], GREEDY) == []


def test_more_prompts_than_the_batch_holds(llm: LLM) -> None:
    assert len(llm.generate(PROMPTS * 3, GREEDY)) == 12


def test_a_stream_adds_up_to_the_text(llm: LLM) -> None:
    pieces = list(llm.stream(PROMPTS[0], GREEDY))
    assert "".join(pieces) == llm.generate(PROMPTS[0], GREEDY).text
    assert len(pieces) > 1 and all(pieces)
    assert "".join(llm.stream(CONVERSATION, GREEDY)) == llm.chat(CONVERSATION, GREEDY).text


def test_a_conversation_goes_through_the_models_template(llm: LLM) -> None:
    assert llm.chat_template is not None and llm.chat_template.source == CHAT_TEMPLATE
    prompt = llm.chat(CONVERSATION, GREEDY).prompt_token_ids
    assert [llm.tokenizer.token_text(token) for token in prompt].count("<|im_start|>") == 3
    assert llm.tokenizer.decode(prompt).endswith("user\nthe thing?\nassistant\n")
    assert llm.chat(CONVERSATION, GREEDY).token_ids == llm.complete([prompt], GREEDY)[0].token_ids


def test_tools_go_through_the_models_template(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [{"type": "function", "function": {"name": "clock"}}]
    with pytest.raises(KvscapeError, match="this model takes no tools"):
        llm.chat_token_ids(CONVERSATION, tools)
    monkeypatch.setattr(llm, "chat_template", ChatTemplate("<|im_start|>{{ tools[0].function.name }}"))
    ids = llm.chat_token_ids(CONVERSATION, tools)
    assert (llm.tokenizer.token_text(ids[0]), llm.tokenizer.decode(ids)) == ("<|im_start|>", "clock")


def test_a_model_without_a_template_does_not_chat(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "chat_template", None)
    with pytest.raises(KvscapeError, match="no chat template"):
        llm.chat(CONVERSATION)


def test_a_score_is_what_generation_gives_each_token(llm: LLM) -> None:
    ids = llm.tokenizer.encode(PROMPTS[3], add_bos=True)
    everything = SamplingParams(max_tokens=1, logprobs=llm.metadata.model.vocab_size)
    steps = llm.complete([ids[:length] for length in range(1, len(ids))], everything)
    wanted = [dict(c.logprobs[0].top)[token] for c, token in zip(steps, ids[1:], strict=True)]
    np.testing.assert_allclose(llm.score(ids), wanted, atol=1e-5)
    np.testing.assert_array_equal(llm.score(PROMPTS[3]), llm.score(ids))


def test_logprobs_are_of_one_distribution(llm: LLM) -> None:
    everything = SamplingParams(max_tokens=3, logprobs=llm.metadata.model.vocab_size, ignore_eos=True)
    for entry in llm.generate(PROMPTS[0], everything).logprobs:
        assert np.exp([logprob for _, logprob in entry.top]).sum() == pytest.approx(1, abs=1e-5)
        assert entry.token_id == entry.top[0][0]


def test_text_ends_before_a_stop_string(llm: LLM) -> None:
    whole = llm.generate(PROMPTS[0], GREEDY)
    stop = whole.text[3:5]
    cut = llm.generate(PROMPTS[0], replace(GREEDY, stop=(stop,)))
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert "".join(llm.stream(PROMPTS[0], replace(GREEDY, stop=(stop,)))) == cut.text


def test_samples_repeat_with_their_seed(llm: LLM) -> None:
    warm = replace(GREEDY, temperature=1.0, seed=7)
    assert llm.generate(PROMPTS[0], warm).token_ids == llm.generate(PROMPTS[:3], warm)[0].token_ids
    assert llm.generate(PROMPTS[0], warm).token_ids != llm.generate(PROMPTS[0], replace(warm, seed=8)).token_ids


def test_choices_are_what_their_seeds_give(llm: LLM) -> None:
    warm = replace(GREEDY, temperature=1.5, seed=3, logprobs=1)
    first, second = llm.generate(PROMPTS[:2], replace(warm, n=3))
    for completion, prompt in ((first, PROMPTS[0]), (second, PROMPTS[1])):
        alone = [llm.generate(prompt, replace(warm, seed=3 + index)) for index in range(3)]
        got = [(c.text, c.token_ids, c.finish_reason, c.logprobs) for c in completion.choices]
        assert got == [(a.text, a.token_ids, a.finish_reason, a.logprobs) for a in alone]
        assert (completion.text, completion.token_ids) == (alone[0].text, alone[0].token_ids)
        assert len({c.token_ids for c in completion.choices}) == 3
    with pytest.raises(ConfigError, match="n = 3: a stream has one answer; use generate"):
        next(llm.stream(PROMPTS[0], replace(warm, n=3)))


def test_a_prompt_that_does_not_fit_leaves_nothing_of_the_others(llm: LLM) -> None:
    with pytest.raises(CapacityError, match="at most 255 fit in the context window"):
        llm.generate([PROMPTS[0], "a" * 300], GREEDY)
    assert not llm.engine.has_work
    assert llm.generate(PROMPTS[0], GREEDY).finish_reason == "length"


def test_one_stream_at_a_time(llm: LLM) -> None:
    stream = iter(llm.stream(PROMPTS[0], GREEDY))
    next(stream)
    with pytest.raises(RuntimeError, match="still being streamed"):
        llm.generate(PROMPTS[1], GREEDY)
    del stream
    assert llm.generate(PROMPTS[1], GREEDY).finish_reason == "length"


def test_leaving_the_context_frees_the_model(opened: Callable[..., LLM]) -> None:
    with opened() as llm:
        assert llm.generate(PROMPTS[0], GREEDY).text
    assert not hasattr(llm, "engine")
    llm.close()


def test_the_context_follows_the_model(opened: Callable[..., LLM]) -> None:
    assert opened().engine.config.context_window_size == 256
    with pytest.raises(ConfigError, match="the model was made for 256 tokens"):
        opened(context_window_size=257)


def test_a_cache_that_memory_cannot_hold(opened: Callable[..., LLM]) -> None:
    cache = r"^out of memory on cpu: the KV cache of context_window_size 256 x max_batch_size 1000000000 needs "
    cache += r"[\d.,]+ GiB, .*: .* are free; "
    with pytest.raises(CapacityError, match=cache + r"use max_batch_size at most \d+$"):
        opened(max_batch_size=10**9)
    with pytest.raises(CapacityError, match=r"use max_total_sequence_length at most \d+$"):
        opened(max_total_sequence_length=10**18)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"device": "cuda:sm_90"}, DeviceError, "device 'cuda:sm_90' cannot run here: it names GPUs to compile for"),
        ({"device": "cuda"}, DeviceError, "device 'cuda' cannot run here"),
        ({"jit": "of"}, ConfigError, "did you mean 'off'"),
        ({"threads": 0}, ConfigError, "threads = 0"),
        ({"threads": 10**6}, ConfigError, "this machine has"),
        ({"activation": "int4"}, ConfigError, "did you mean 'int8'"),
        ({"kv_dtype": "int2"}, ConfigError, "unknown kv_dtype 'int2'; did you mean 'int8'"),
        ({"kv_dtype": "k=int8,v=int9"}, ConfigError, "unknown kv_dtype 'int9'"),
        ({"page_size": 12}, ConfigError, "page_size = 12: the kernels take 8 keys at once; use a multiple of 8"),
        ({"quantization": "q4f16"}, ConfigError, "did you mean 'q4f16_1'"),
    ],
)
def test_wrong_fields_are_one_clear_line(
    opened: Callable[..., LLM], fields: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(**fields)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"context_window_size": 100, "max_batch_size": 3, "page_size": 32},
        {"max_total_sequence_length": 33, "max_batch_size": 4, "prefill_chunk_size": 2},
    ],
)
def test_memory_is_what_was_predicted_to_the_byte(
    opened: Callable[..., LLM], kv_dtype: str, fields: dict[str, int]
) -> None:
    llm = opened(kv_dtype=kv_dtype, **fields)
    model, config = llm.metadata.model, llm.engine.config
    assert llm.memory.kv_cache_bytes == kv_cache_bytes(model, config)
    weights = llm.artifact.manifest.weights_bytes
    assert llm.memory == predict_memory(model, config, weights, llm.metadata.workspaces)
    pages = -(-config.total_tokens // config.page_size)
    # two layers, keys and values, two heads of 16 elements; int8 has a f16 scale for each head, int4 two for each head
    # of a value and two for each element of 16 keys, which wait in f16 until they are together
    head_bytes = {"f32": 64, "f16": 32, "int8": 18, "int4": 12}[kv_dtype]
    tails = 2 * config.max_batch_size * 2 * 16 * 16 * 2 if kv_dtype == "int4" else 0
    assert llm.memory.kv_cache_bytes == 2 * pages * config.page_size * 2 * 2 * head_bytes + tails


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_the_pool_fills_to_its_last_token_and_no_further(opened: Callable[..., LLM], kv_dtype: str) -> None:
    llm = opened(kv_dtype=kv_dtype, max_total_sequence_length=64, prefill_chunk_size=16)
    ids = [token % 300 for token in range(7, 57)]
    (answer,) = llm.complete([ids], SamplingParams(max_tokens=100, ignore_eos=True))
    # 64 tokens have their keys in the cache; the 65th was chosen, and would need a place to go on
    assert (len(ids) + len(answer.token_ids), answer.finish_reason) == (65, "length")
    (pool,) = llm.engine.pools.pages  # type: ignore[attr-defined]
    bytes_of_pages = np.from_dlpack(pool).view(np.uint8).reshape(2, 4, -1)
    assert bytes_of_pages.any(axis=2).all()
    with pytest.raises(CapacityError, match="at most 64 fit in the KV cache"):
        llm.complete([[5] * 65])


def test_the_answer_does_not_depend_on_pages_chunks_or_batch(llm: LLM, opened: Callable[..., LLM]) -> None:
    wanted = [(c.token_ids, c.text) for c in llm.generate(PROMPTS, GREEDY)]
    for fields in ({"page_size": 48, "prefill_chunk_size": 2}, {"max_batch_size": 2, "max_total_sequence_length": 48}):
        other = opened(**fields)
        assert [(c.token_ids, c.text) for c in other.generate(PROMPTS, GREEDY)] == wanted


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_long_contexts_alone_and_in_a_batch_give_the_same_tokens(
    open_llm: Callable[..., LLM], long_gguf: Path, kv_dtype: str
) -> None:
    """Alone a token's ranges of keys are shared among the threads; eight tokens keep them busy as they are."""
    prompts = [[(7 * token + number) % 300 for token in range(600 + number)] for number in range(8)]
    answers = []
    for batch in (1, 8):
        with open_llm(long_gguf, kv_dtype=kv_dtype, max_batch_size=batch, context_window_size=700, threads=2) as llm:
            answers.append([completion.token_ids for completion in llm.complete(prompts, GREEDY)])
    assert answers[0] == answers[1]
