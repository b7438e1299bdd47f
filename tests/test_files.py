from pathlib import Path

import pytest

from kvscape.errors import KvscapeError
from kvscape.files import remove_leftovers, resumed_folder, write_text, written_file, written_folder


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with written_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), written_file(path) as temporary:
        temporary.write_text("half of")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with written_folder(path) as temporary:
            (temporary / name).write_text(name)
            assert not (path / name).exists()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "folder" / "file", "old")
    with pytest.raises(error), written_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("half of")
        raise error
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_interrupted_folder_that_is_resumed_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), resumed_folder(path) as partial:
        (partial / "first").write_text("1")
        raise KeyboardInterrupt
    assert not path.exists()
    with resumed_folder(path) as partial:
        (partial / "second").write_text("2")
    assert sorted(file.name for file in path.iterdir()) == ["first", "second"]
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "Grüße 🌍\n")
    assert (tmp_path / "file").read_bytes() == "Grüße 🌍\n".encode()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for path in (tmp_path / "plain" / "file", tmp_path / "plain" / "deep" / "file"):
        with pytest.raises(KvscapeError, match=r"cannot write .*: .*; choose a folder that can be written"):
            write_text(path, "")
        with pytest.raises(KvscapeError, match="cannot write"), written_folder(path):
            pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(KvscapeError, match=r"cannot write .*folder: Is a directory"):
        write_text(tmp_path / "folder", "")
    with (
        pytest.raises(KvscapeError, match=r"cannot write .*plain: Not a directory"),
        written_folder(tmp_path / "plain"),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "plain"]


def test_leftovers_of_one_path_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a[1].tar", ".a[1].tar.x7", ".a1.tar.x7", ".b.tar.x7"):
        (tmp_path / name).write_text("")
    (tmp_path / ".a[1].tar.folder").mkdir()
    (tmp_path / ".a[1].tar.folder" / "file").write_text("")
    remove_leftovers(tmp_path / "a[1].tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a1.tar.x7", ".b.tar.x7", "a[1].tar"]
    remove_leftovers(tmp_path / "none" / "file")
