"""transformers as a subject: what it says is what transformers says alone, and what kvscape's engine says."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference extra (torch, transformers) is not installed")
pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")

import torch
import transformers
from fake_bitsandbytes import BROKEN, FakeBitsAndBytes

from architectures import ARCHITECTURES, TOKENS, RandomSource
from built_tiny import BuildTiny
from kvscape.artifact.tensor_file import map_tensors
from kvscape.bench import measure
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.errors import CapacityError, DeviceError
from kvscape.quality import Settings, measure_perplexity, quality_point
from kvscape.quality.text import Text
from kvscape.quantization.decode import decode
from kvscape.quantization.format import FORMATS
from kvscape.study.feasibility import infeasible_reason
from kvscape.study.model_facts import ModelFacts
from kvscape.subjects import Subject, find_local, find_subject, loaded_subject
from kvscape.subjects.transformers.model import load_model
from kvscape.weights.convert import convert
from kvscape.weights.hf_mapping import hf_parts
from kvscape.weights.sources import open_source
from reference import load_reference, reference_greedy, reference_logits, reference_logprobs
from reference_architectures import reference_model
from tiny_folder import write_tiny_folder

IDS: list[int] = np.random.default_rng(3).integers(3, 320, 60).tolist()
PROMPTS = [IDS[:5], IDS[3:33], IDS[10:12]]
KNOBS = EngineConfig(context_window_size=128, prefill_chunk_size=16, max_batch_size=3, kv_dtype="f32")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("transformers") / "tiny")


def point(model: Path, quantization: str = "q0f32", **build: Any) -> DesignPoint:
    return DesignPoint(BuildConfig(str(model), quantization, **build), KNOBS, subject="transformers", threads=2)


@pytest.fixture(scope="module")
def subject(tiny_gguf: Path) -> Iterator[Subject]:
    with loaded_subject(point(tiny_gguf)) as loaded:
        yield loaded


def answers(subject: Subject, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in prompts]
    for step in subject.generate(prompts, max_tokens):
        for token in step:
            found[token.request].append(token.token_id)
    return found


def test_a_gguf_files_scores_are_those_of_transformers_alone(subject: Subject, tiny_gguf: Path) -> None:
    np.testing.assert_allclose(subject.score(IDS), reference_logprobs(load_reference(tiny_gguf), IDS), atol=1e-5)


def test_a_folders_scores_are_those_of_transformers_alone(tiny_folder: Path) -> None:
    alone = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    with loaded_subject(point(tiny_folder)) as subject:
        np.testing.assert_allclose(subject.score(IDS), reference_logprobs(alone, IDS), atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_built_from_kvscapes_own_stream(name: str) -> None:
    model = load_model(RandomSource(ARCHITECTURES[name]), BuildConfig(quantization="q0f32"))
    expected = reference_logits(reference_model(ARCHITECTURES[name]), TOKENS[:150])
    np.testing.assert_allclose(reference_logits(model, TOKENS[:150]), expected, atol=1e-4)


@pytest.mark.parametrize("kv_dtype", ["f32", "f16"])
def test_kvscapes_engine_has_the_same_scores(tiny_gguf: Path, built_tiny: BuildTiny, kv_dtype: str) -> None:
    """With f16 in the cache as well: both round keys and values when they are stored."""
    engine, built = replace(KNOBS, kv_dtype=kv_dtype), built_tiny("q0f32")
    ours = Engine(CpuDevice(built.library, built.packed_weights, threads=2), engine).score(IDS)
    with loaded_subject(replace(point(tiny_gguf), engine=engine)) as subject:
        theirs = subject.score(IDS)
    np.testing.assert_allclose(theirs, ours, atol=1e-4 if kv_dtype == "f32" else 1e-3)
    assert theirs.mean() == pytest.approx(ours.mean(), rel=1e-5)


def test_the_precision_of_the_cache_is_active(subject: Subject, tiny_gguf: Path) -> None:
    with loaded_subject(replace(point(tiny_gguf), engine=replace(KNOBS, kv_dtype="f16"))) as other:
        assert (other.score(IDS)[2:] != subject.score(IDS)[2:]).mean() > 0.9


def test_prompts_of_any_length_are_continued_together_as_alone(subject: Subject, tiny_gguf: Path) -> None:
    model = load_reference(tiny_gguf)
    expected = [[first for (first, _), _ in reference_greedy(model, prompt, 6)] for prompt in PROMPTS]
    assert answers(subject, PROMPTS, 6) == expected
    assert [answers(subject, [prompt], 6)[0] for prompt in PROMPTS] == expected


def test_a_step_takes_a_chunk_of_prompts_or_one_token_of_each(subject: Subject) -> None:
    steps = [[token.request for token in step] for step in subject.generate(PROMPTS, 3)]
    assert steps == [[]] * 5 + [[0, 1, 2]] * 3  # 30 columns of three prompts, 5 at a time


def test_distributions_are_the_rows_that_were_scored(subject: Subject) -> None:
    chunks = list(subject.distributions(IDS))
    assert [chunk.shape for chunk in chunks] == [(16, 320)] * 3 + [(11, 320)]
    logits = np.concatenate(chunks).astype(np.float64)
    expected = logits[np.arange(59), IDS[1:]] - np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(subject.score(IDS), expected, atol=1e-5)


@pytest.mark.parametrize("embedding", [None, "q8f16_1"])
@pytest.mark.parametrize("kind", ["gguf", "folder"])
def test_fake_q3_has_the_very_weights_of_q3f16_1(
    kind: str, embedding: str | None, tiny_gguf: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    source = open_source(tiny_gguf if kind == "gguf" else tiny_folder)
    artifact = convert(source, tmp_path / "q3", "q3f16_1", embedding)
    state = load_model(source, BuildConfig(quantization="fake_q3", embedding_quantization=embedding)).state_dict()
    stored = map_tensors(artifact.canonical_weights)
    for name, parts in hf_parts(source.config).items():
        info = artifact.manifest.tensors[name]
        arrays = {key: stored[f"{name}.{key}"] for key in FORMATS[info.format].shapes(info.shape)}
        joined = torch.cat([state[part.name] for part in parts]).numpy()
        np.testing.assert_array_equal(joined, decode(arrays, FORMATS[info.format], info.shape[-1]))


def test_tokens_are_those_of_the_folders_own_tokenizer(tiny_folder: Path) -> None:
    text = "the heir and\n\nanother thing: 12 ä"
    with loaded_subject(point(tiny_folder)) as subject:
        ids = subject.encode(text)
        assert ids == transformers.AutoTokenizer.from_pretrained(tiny_folder)(text)["input_ids"]
        assert subject.decode(ids) == text
        assert b"".join(map(subject.token_bytes, ids)) == text.encode()
        assert subject.leading_token_id is None and 0 not in subject.ordinary_token_ids


@pytest.mark.parametrize(("quantization", "size"), [("auto", 4), ("q0f16", 2), ("q0bf16", 2)])
def test_memory_is_what_the_tensors_take(quantization: str, size: int, tiny_gguf: Path) -> None:
    with loaded_subject(point(tiny_gguf, quantization)) as subject:
        answers(subject, PROMPTS, 3)
        assert subject.memory.kv_cache_bytes == 3 * (30 + 2) * 2 * 2 * 2 * 16 * 4
        assert subject.memory.weights_bytes == subject.predicted_memory.weights_bytes
        assert subject.bits_per_weight == 8 * size


def test_threads_are_put_back(tiny_gguf: Path) -> None:
    before = torch.get_num_threads()
    with loaded_subject(replace(point(tiny_gguf), threads=before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_text_beyond_the_context_is_refused(subject: Subject) -> None:
    with pytest.raises(CapacityError, match="129 tokens to score: context_window_size is 128"):
        subject.score([5] * 129)


def test_cuda_is_refused_where_there_is_none(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device 'cuda' cannot run here: torch sees no CUDA GPU; use --device cpu"):
        find_subject("transformers").check(point(tiny_gguf, device="cuda"))


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_takes_every_linear_layer_but_the_head(
    bits: int, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", FakeBitsAndBytes())
    plain, model = (load_model(open_source(tiny_gguf), BuildConfig(quantization=q)) for q in ("q0f32", f"{bits}bit"))
    layers = {name: layer for name, layer in model.named_modules() if type(layer).__name__ == "FakeLayer"}
    assert len(layers) == 2 * 7 and type(model.lm_head) is torch.nn.Linear
    for name, layer in layers.items():
        assert layer.asked.get("quant_type") == ("nf4" if bits == 4 else None)
        assert torch.equal(layer.weight, plain.get_submodule(name).weight)


def test_bitsandbytes_that_is_missing_or_does_not_run_is_said(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, source = BuildConfig(quantization="4bit"), open_source(tiny_gguf)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(DeviceError, match="pip install bitsandbytes, or use fake_q4"):
        load_model(source, build)
    monkeypatch.setitem(sys.modules, "bitsandbytes", FakeBitsAndBytes(broken=True))
    with pytest.raises(DeviceError, match=f"cannot round to 4 bits on cpu: {BROKEN}"):
        load_model(source, build)


def test_a_study_can_measure_it(tiny_gguf: Path) -> None:
    """All that a study's processes do: facts of the build, what fits, a bench and a perplexity."""
    asked = replace(point(tiny_gguf, "fake_q3"), workload=Workload(prompt_tokens=20, max_tokens=4, num_runs=2))
    facts = ModelFacts.from_json(find_local("transformers").prepare(asked.build, lambda *_: None))  # type: ignore[misc]
    assert infeasible_reason(asked, facts, 1 << 40) == ""
    assert "transformers needs" in infeasible_reason(asked, facts, 1 << 20)
    settings, text = Settings(context=32), Text("text", "the heir and another thing " * 20)
    with loaded_subject(asked) as subject:
        record = measure(subject, asked)
        assert record.metrics["weights_bytes"] == facts.weights_bytes == record.predicted["weights_bytes"]
        assert record.metrics["decode_tokens_per_s"] > 0
    scored = quality_point(asked, settings)
    with closing(find_local("transformers").load(scored, "on", None)) as subject:
        perplexity = measure_perplexity(subject, scored, settings, text)
        nll = [-subject.score(subject.encode(text.content)[start : start + 32]) for start in (0, 32)]
    assert perplexity.perplexity > 1 and perplexity.parameters["quantization"] == "fake_q3"
    assert np.concatenate(nll).mean() == pytest.approx(perplexity.mean_nll, rel=0.2)
