"""A folder of the cache that one process has at a time."""

import fcntl
import signal
from pathlib import Path

import pytest

from kvscape.hub.cache import locked


def test_an_interrupt_just_before_the_waiting_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python acts on a signal after the call that it is in: one that blocks would go on for as long as the other."""
    flock = fcntl.flock
    interrupted: list[None] = []

    def flock_with_a_signal_within(file: int, how: int) -> None:
        assert how & fcntl.LOCK_NB, "nothing would end this call"
        signal.raise_signal(signal.SIGINT)
        flock(file, how)

    def waits() -> None:
        interrupted.append(None)
        monkeypatch.setattr(fcntl, "flock", flock_with_a_signal_within)

    with locked(tmp_path), pytest.raises(KeyboardInterrupt), locked(tmp_path, waits):
        raise AssertionError("two have it")
    assert len(interrupted) == 1


def test_who_waits_has_it_once_the_other_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = locked(tmp_path)
    first.__enter__()
    monkeypatch.setattr("kvscape.hub.cache.time.sleep", lambda seconds: first.__exit__(None, None, None))
    said: list[str] = []
    with locked(tmp_path, lambda: said.append("waits")):
        assert said == ["waits"]
