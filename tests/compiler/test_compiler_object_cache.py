"""Object files on disk: what comes back is what was kept, or nothing."""

import os
from pathlib import Path

import pytest

from kvscape.compiler.object_cache import ObjectCache, kernel_cache


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "new" / "kernels")


def test_what_is_kept_is_found(cache: ObjectCache) -> None:
    assert cache.find("a") is None
    cache.add({"a": b"code", "b": b""})
    assert cache.find("a") == b"code" and cache.find("b") == b"" and cache.find("c") is None
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.o", "b.o"], "nothing temporary is left"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:-1] + b"x", lambda b: b""])
def test_a_damaged_file_is_not_there_and_is_written_again(cache: ObjectCache, damage: object) -> None:
    assert callable(damage)
    cache.add({"a": b"code"})
    file = cache.folder / "a.o"
    file.write_bytes(damage(file.read_bytes()))
    assert cache.find("a") is None
    cache.add({"a": b"code"})
    assert cache.find("a") == b"code"


def test_what_was_not_used_for_longest_goes_first(cache: ObjectCache) -> None:
    small = ObjectCache(cache.folder, most_bytes=300)
    small.add({"a": bytes(100), "b": bytes(100)})
    for age, name in enumerate("ba"):
        os.utime(cache.folder / f"{name}.o", (age, age))
    assert small.find("b") is not None  # used now
    small.add({"c": bytes(100)})
    assert [name for name in "abc" if small.find(name) is not None] == ["b", "c"]


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ObjectCache(tmp_path / "file" / "kernels")
    cache.add({"a": b"code"})
    assert cache.find("a") is None


def test_the_users_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    assert kernel_cache().folder == tmp_path / "kernels"
