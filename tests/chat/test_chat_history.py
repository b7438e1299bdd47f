"""What was typed before, kept on disk."""

import multiprocessing
from pathlib import Path

import pytest

from kvscape.chat.history import HistoryFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "chat_history.jsonl"


def test_entries_survive_and_keep_their_line_breaks(path: Path) -> None:
    for entry in ("one", "two\nlines é \ud800", ""):
        HistoryFile(path).add(entry)
    assert HistoryFile(path).entries() == ["one", "two\nlines é \ud800", ""]


def test_only_the_owner_may_read_it(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    HistoryFile(path).add("secret")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_others_wrote_into_it_is_left_out(path: Path) -> None:
    HistoryFile(path).add("one")
    with path.open("ab") as file:
        file.write(b"{}\n\xff\n[[[\n")
    HistoryFile(path).add("two")
    assert HistoryFile(path).entries() == ["one", "two"]


def test_a_large_file_keeps_its_newest_entries(path: Path) -> None:
    history = HistoryFile(path)
    history.add("x")
    path.write_bytes(b'"old %s"\n' % (b"x" * 1000) * 2000)
    history.add("new")
    assert len(history.entries()) == 1000
    assert path.stat().st_size < 1_200_000
    assert history.entries()[-1] == "new"


def test_without_a_place_there_is_no_history(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = HistoryFile(tmp_path / "file" / "chat_history.jsonl")
    history.add("one")
    assert history.entries() == []


def _type(path: Path, session: int) -> None:
    for number in range(50):
        HistoryFile(path).add(f"{session} {number} " + "x" * 5000)


def test_sessions_at_the_same_time_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    typists = [context.Process(target=_type, args=(path, session)) for session in range(3)]
    for typist in typists:
        typist.start()
    for typist in typists:
        typist.join()
    entries = HistoryFile(path).entries()
    typed = [entry.split(" ")[:2] for entry in entries]
    assert sorted(typed) == sorted([str(session), str(number)] for session in range(3) for number in range(50))
    for session in range(3):
        assert [number for who, number in typed if who == str(session)] == [str(number) for number in range(50)]
