"""Processes that measure on one machine do it one after the other."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvscape.bench import WAITING, turn
from kvscape.errors import HubError
from kvscape.hub.cache import make_folder

TAKE_TURN = (str(Path(__file__).with_name("take_turn.py")),)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def started(command: Sequence[str] = TAKE_TURN) -> subprocess.Popen[str]:
    """Leaving its ``with`` block ends its stdin, and waits for its end."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def never() -> None:
    raise AssertionError("it waited")


def test_a_second_process_waits_and_then_goes_on() -> None:
    with started() as first:
        assert said(first) == "has"
        with started() as second:
            assert said(second) == "waits"
            first.communicate()
            assert said(second) == "has"


def test_a_killed_process_has_no_turn_any_more() -> None:
    with started() as first:
        assert said(first) == "has"
        with started() as second:
            assert said(second) == "waits"
            first.kill()
            assert said(second) == "has"


def test_nobody_waits_where_nobody_measures() -> None:
    for _ in range(2):
        with turn(never):
            pass


def test_what_a_process_starts_has_its_turn() -> None:
    with turn(never):
        with turn(never), started() as child:
            assert said(child) == "has"
        with started() as child:  # the inner turn has not given it back
            assert said(child) == "has"
    with started() as other:
        assert said(other) == "has"
        with pytest.raises(AssertionError, match="it waited"), turn(never):
            pass


def test_other_caches_have_turns_of_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started() as other:
        assert said(other) == "has"
        monkeypatch.setenv("KVSCAPE_HOME", str(home.parent / "elsewhere"))
        with turn(never):
            pass


def test_a_cache_that_cannot_be_written_is_said(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(HubError, match="cannot write the cache"), turn(never):
        pass


@pytest.mark.parametrize("command", ["bench", "profile", "ppl"])
def test_a_command_builds_then_waits_for_its_turn(
    command: str, long_gguf: Path, kvscape_home: Path, home: Path
) -> None:
    """Ctrl-C ends the waiting; once the other process has gone, the command measures."""
    home.mkdir()
    shared = make_folder(kvscape_home / "artifacts")
    (home / "artifacts").symlink_to(shared)
    words = {"bench": ("--max-tokens", "2"), "profile": (), "ppl": ("--context", "16", "--limit", "1")}[command]
    runs = () if command == "ppl" else ("--num-runs", "1", "--prompt-tokens", "4")
    arguments = ("-m", "kvscape", command, "--model", str(long_gguf), *words, *runs, "--json")
    with started() as other:
        assert said(other) == "has"
        with started(arguments) as interrupted:
            assert waits(interrupted)
            interrupted.send_signal(signal.SIGINT)
            assert (interrupted.communicate(), interrupted.returncode) == (("", "error: interrupted\n"), 130)
        with started(arguments) as patient:
            assert waits(patient)
            other.communicate()
            stdout, stderr = patient.communicate()
            assert (patient.returncode, stderr) == (0, "") and stdout.startswith("{")


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether it said so on stderr, before anything but what it builds."""
    assert process.stderr is not None
    return WAITING in (line.rstrip() for line in iter(process.stderr.readline, ""))
