import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fake_llama_cpp import TABLE, VOCAB, FakeLlamaCpp

from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.errors import ConfigError, DeviceError, KvscapeError, WeightsError
from kvscape.subjects import Token, find_local, loaded_subject
from kvscape.subjects.llamacpp import LlamaCppSubject, check_point, prepare_llamacpp, source_model
from kvscape.subjects.llamacpp.library import find_library
from kvscape.subjects.llamacpp.memory import kv_bytes_per_token, predict
from kvscape.weights.readers.gguf import GgufSource

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@pytest.fixture
def api(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLlamaCpp]:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    fake = FakeLlamaCpp(GgufSource(tiny_gguf).config)
    monkeypatch.setitem(sys.modules, "llama_cpp", cast(Any, fake))
    find_library.cache_clear()
    yield fake
    find_library.cache_clear()


@pytest.fixture
def point(tiny_gguf: Path) -> DesignPoint:
    engine = EngineConfig(context_window_size=100, prefill_chunk_size=4, max_batch_size=3)
    return DesignPoint(BuildConfig(str(tiny_gguf)), engine, subject="llamacpp", threads=2)


@pytest.fixture
def subject(api: FakeLlamaCpp, point: DesignPoint) -> Iterator[LlamaCppSubject]:
    with loaded_subject(point) as loaded:
        yield cast(LlamaCppSubject, loaded)


def continued(prompt: list[int], tokens: int) -> list[int]:
    """What the fake model says, by its definition."""
    held = list(prompt)
    for _ in range(tokens):
        held.append(int(TABLE[sum(held) % VOCAB].argmax()))
    return held[len(prompt) :]


def test_every_prompt_is_continued_with_its_own_tokens(subject: LlamaCppSubject) -> None:
    answers: list[list[int]] = [[] for _ in PROMPTS]
    for step in subject.generate(PROMPTS, 5):
        for token in step:
            answers[token.request].append(token.token_id)
    assert answers == [continued(prompt, 5) for prompt in PROMPTS]


def test_a_step_takes_a_chunk_of_prompts_or_one_token_of_each_stream(subject: LlamaCppSubject) -> None:
    steps = list(subject.generate(PROMPTS, 3))
    # nine prompt tokens in chunks of four
    assert [[token.request for token in step] for step in steps] == [[0], [1], [2], [0, 1, 2], [0, 1, 2]]
    assert steps[0] == [Token(0, continued(PROMPTS[0], 1)[0])]


def test_a_second_run_begins_anew(subject: LlamaCppSubject) -> None:
    assert list(subject.generate(PROMPTS, 3)) == list(subject.generate(PROMPTS, 3))


def test_scores_are_log_softmax_of_what_follows(subject: LlamaCppSubject) -> None:
    tokens = [int(token) for token in np.random.default_rng(1).integers(0, VOCAB, 90)]
    logits = np.array([TABLE[sum(tokens[: index + 1]) % VOCAB] for index in range(89)], np.float64)
    expected = logits[np.arange(89), tokens[1:]] - np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(subject.score(tokens), expected, atol=1e-5)


def test_distributions_are_the_logits_a_score_reads(subject: LlamaCppSubject) -> None:
    """The context takes four tokens at once."""
    tokens = [int(token) for token in np.random.default_rng(1).integers(0, VOCAB, 11)]
    chunks = [rows.copy() for rows in subject.distributions(tokens)]
    assert [len(rows) for rows in chunks] == [4, 4, 2]
    expected = [TABLE[sum(tokens[: index + 1]) % VOCAB] for index in range(10)]
    np.testing.assert_array_equal(np.concatenate(chunks), expected)


def test_scoring_takes_another_context_and_gives_it_back(subject: LlamaCppSubject, api: FakeLlamaCpp) -> None:
    subject.score([3, 4, 5])
    list(subject.generate(PROMPTS, 2))
    assert [context.n_outputs_max for context in api.contexts] == [3, 4, 3]
    assert api.freed == ["batch", "context"] * 2


def test_the_knobs_arrive(subject: LlamaCppSubject, api: FakeLlamaCpp) -> None:
    (context,) = api.contexts
    assert (context.n_ctx, context.n_seq_max, context.n_batch, context.n_ubatch) == (300, 3, 4, 4)
    assert (context.n_threads, context.n_threads_batch, context.type_k, context.type_v) == (2, 2, 1, 1)


@pytest.mark.parametrize(
    ("kv_dtype", "nbytes"), [("f32", 4), ("f16", 2), ("int8", 34 / 32), ("k=int8,v=int4", 52 / 64)]
)
def test_memory_is_what_llama_cpp_allocates(api: FakeLlamaCpp, tiny_gguf: Path, kv_dtype: str, nbytes: float) -> None:
    model = GgufSource(tiny_gguf).config
    assert kv_bytes_per_token(model, kv_dtype) == 2 * 2 * 2 * 16 * nbytes  # layers, K and V, heads, dimension


def test_memory_counts_cells_weights_and_buffers(subject: LlamaCppSubject) -> None:
    memory = subject.memory
    assert memory.kv_cache_bytes == 3 * 256 * 256  # each sequence's 100 tokens become 256 cells
    assert (memory.weights_bytes, memory.workspace_bytes) == (1000, 1.75 * 2**20)
    assert subject.predicted_memory.kv_cache_bytes == memory.kv_cache_bytes
    assert subject.bits_per_weight == 5.0


def test_a_cache_of_another_size_is_noticed(subject: LlamaCppSubject, api: FakeLlamaCpp, point: DesignPoint) -> None:
    api.kv_error_mib = 0.5
    with loaded_subject(point) as loaded, pytest.raises(DeviceError, match=r"0\.19 MiB were expected"):
        _ = loaded.memory


def test_it_answers_for_the_model_and_its_tokenizer(
    subject: LlamaCppSubject, api: FakeLlamaCpp, tiny_gguf: Path
) -> None:
    assert subject.model == GgufSource(tiny_gguf).config
    assert subject.kernels == ("llama.cpp", "SSE3", "AVX2")
    assert list(subject.ordinary_token_ids) == list(range(3, VOCAB))
    text = "a text of some length: ä"
    assert subject.decode(subject.encode(text)) == text
    assert b"".join(map(subject.token_bytes, [1, *subject.encode(text)])) == text.encode()
    assert subject.token_bytes(253) == b"\xfa" * 40  # longer than the first guess
    assert "SSE3 AVX2" in subject.build_key
    assert subject.leading_token_id is None
    api.adds_bos = True
    assert subject.leading_token_id == 1


def test_closing_it_frees_everything(api: FakeLlamaCpp, point: DesignPoint) -> None:
    with loaded_subject(point):
        pass
    assert api.freed == ["batch", "context", "model"]


def test_a_file_is_quantized_once(api: FakeLlamaCpp, point: DesignPoint, tmp_path: Path) -> None:
    build = replace(point.build, quantization="q4_0", embedding_quantization="q8_0")
    first, second = prepare_llamacpp(build), prepare_llamacpp(build)
    assert first == second and api.quantized == [(2, 8)]
    assert first["artifact"].parent == tmp_path / "llamacpp"
    other = prepare_llamacpp(replace(build, quantization="q8_0"))
    assert other["weights_key"] != first["weights_key"] and len(api.quantized) == 2


def test_auto_is_the_file_as_it_is(api: FakeLlamaCpp, point: DesignPoint, tiny_gguf: Path) -> None:
    facts = prepare_llamacpp(point.build)
    assert facts["artifact"] == tiny_gguf and api.quantized == []
    assert source_model(point.build) == GgufSource(tiny_gguf).config


@pytest.mark.parametrize(
    ("build", "engine", "says"),
    [
        ({"quantization": "q4f16_1"}, {}, "did you mean 'q4_1'?"),
        ({"quantization": "q4_0", "embedding_quantization": "q9_0"}, {}, "did you mean"),
        ({"embedding_quantization": "q8_0"}, {}, "auto is the file as it is"),
        ({"activation": "float32"}, {}, "llamacpp has no activation = float32: its knobs are quantization"),
        ({"device": "cuda"}, {}, "llamacpp has no device"),
        ({}, {"sliding_window_size": 64}, "leave sliding_window_size out"),
        ({}, {"page_size": 32}, "leave page_size out"),
        ({}, {"max_total_sequence_length": 64}, "leave max_total_sequence_length out"),
    ],
)
def test_what_llama_cpp_lacks_is_refused(build: dict[str, Any], engine: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_point(DesignPoint(BuildConfig(**build), EngineConfig(**engine)))
    assert says in str(error.value)


@pytest.mark.parametrize("asked", [{"request_rate": 2.0}, {"num_requests": 8}])
def test_it_runs_all_requests_together(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"llamacpp has no {next(iter(asked))} = "):
        check_point(DesignPoint(workload=Workload(**asked)))


def test_what_it_says_of_a_failure_is_the_reason(api: FakeLlamaCpp, point: DesignPoint) -> None:
    api.loads = False
    with pytest.raises(WeightsError, match="no such tensor"), loaded_subject(point):
        pass


def test_a_missing_package_says_how_to_get_it(
    point: DesignPoint, api: FakeLlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(KvscapeError, match="GGML_NATIVE=ON") as error, loaded_subject(point):
        pass
    assert "\n" not in str(error.value)


def test_the_arithmetic_needs_no_package(tiny_gguf: Path) -> None:
    model, config = GgufSource(tiny_gguf).config, EngineConfig(context_window_size=300, max_batch_size=2)
    assert predict(model, config, 1000).kv_cache_bytes == 2 * 512 * 256
    assert find_local("llamacpp").predict(model, config, 1000, {}) == predict(model, config, 1000)
