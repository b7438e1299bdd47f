"""``kvscape ppl`` as a user runs it: protocols, a kill, a stream and its figure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import SHARED_CORES
from kvscape.cli.main import run


@pytest.fixture
def ppl(kvscape_home: Path, long_gguf: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; return its record."""
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))

    def measured(*arguments: str) -> dict[str, Any]:
        assert run(["ppl", "--model", str(long_gguf), *arguments, "--json"]) == 0
        record: dict[str, Any] = json.loads(capfd.readouterr().out)
        return record

    return measured


@pytest.mark.parametrize(
    ("protocol", "context", "stride", "unit", "scored"),
    [
        ("windows", 48, 0, "token", 4 * 47),
        ("stride", 48, 24, "token", 47 + 3 * 24),
        ("llamacpp", 48, 0, "token", 4 * 23),
        ("word", 48, 0, "word", 300),
    ],
)
def test_every_protocol_measures_a_file(
    protocol: str, context: int, stride: int, unit: str, scored: int, ppl: Any, tmp_path: Path
) -> None:
    (tmp_path / "z.txt").write_text("z " * 150)  # a token each: no merge of the tiny vocabulary has a z
    text = ("--text", str(tmp_path / "z.txt"), "--protocol", protocol, "--context", str(context), "--limit", "4")
    record = ppl(*text)
    assert (record["protocol"], record["stride"], record["unit"]) == (protocol, stride, unit)
    assert (record["tokens_scored"], record["text_tokens"], record["text"]) == (scored, 300, "z")
    assert record["bits_per_byte"] > 0 and record["perplexity"] > 1


def test_the_context_is_the_protocols_own(ppl: Any) -> None:
    assert ppl("--limit", "1")["context"] == 2048
    assert ppl("--limit", "1", "--protocol", "llamacpp")["context"] == 512


def test_a_stream_longer_than_the_models_context_is_drawn(ppl: Any, tmp_path: Path) -> None:
    knobs = ("--protocol", "stream", "--sliding-window-size", "32", "--context", "4500")
    lines = []
    for sinks in ("4", "0"):
        record = ppl(*knobs, "--attention-sink-size", sinks)
        assert [mark["tokens"] for mark in record["curve"]] == [1000, 2000, 3000, 4000, 4499]
        assert record["curve"][-1]["running_perplexity"] == pytest.approx(record["perplexity"])
        lines.append(json.dumps(record))
    assert lines[0] != lines[1]
    (tmp_path / "streams.jsonl").write_text("\n".join(lines))
    out = tmp_path / "streaming.svg"
    assert run(["plot", "stream", "--jsonl", str(tmp_path / "streams.jsonl"), "--out", str(out)]) == 0
    assert "4 sinks" in out.read_text() and "no sinks" in out.read_text()


STALLING = """
import signal, sys
from kvscape.cli.main import main
from kvscape.quality.journal import Journal

add, added = Journal.add, []

def adding(journal, window, scores):
    add(journal, window, scores)
    added.append(window)
    if len(added) == 100:
        print("stalls", flush=True)
        signal.pause()

Journal.add = adding
main(sys.argv[1:])
"""


def test_a_killed_measurement_goes_on_to_the_same_figure(ppl: Any, kvscape_home: Path, long_gguf: Path) -> None:
    knobs = ("--context", "16", "--limit", "2000")
    command = [sys.executable, "-c", STALLING, "ppl", "--model", str(long_gguf), *knobs]
    journals = kvscape_home / "ppl"
    before = set(journals.glob("*.scores"))
    with subprocess.Popen(command, env={**os.environ, **SHARED_CORES}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"stalls\n"
        process.kill()
    (journal,) = set(journals.glob("*.scores")) - before
    assert journal.stat().st_size > 5000
    resumed = ppl(*knobs)
    assert not journal.exists()
    assert resumed == ppl(*knobs)
