"""A model that has not changed is not read again."""

import os
from pathlib import Path

import pytest

from kvscape.config import BuildConfig
from kvscape.llm import build
from kvscape.llm.build import find_artifact
from kvscape.llm.known import KnownArtifact
from kvscape.weights.source import Source
from kvscape.weights.sources import open_source


@pytest.fixture
def model(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of one test's own, converted once."""
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    find_artifact(BuildConfig(str(path)))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that are opened as sources from now on."""
    found: list[Path] = []

    def noted(path: Path) -> Source:
        found.append(path)
        return open_source(path)

    monkeypatch.setattr(build, "open_source", noted)
    return found


def test_a_file_that_has_not_changed_is_not_read_again(model: Path, reads: list[Path]) -> None:
    assert find_artifact(BuildConfig(str(model))).manifest.source == "tiny.gguf"
    assert reads == []


def test_a_file_of_another_time_is_read_again(model: Path, reads: list[Path]) -> None:
    os.utime(model, ns=(0, model.stat().st_mtime_ns + 1))
    find_artifact(BuildConfig(str(model)))
    assert reads == [model]


def test_another_quantization_is_another_artifact(model: Path, reads: list[Path]) -> None:
    assert find_artifact(BuildConfig(str(model), "q8f16_1")).manifest.quantization == "q8f16_1"
    assert find_artifact(BuildConfig(str(model), "auto", "q8f16_1")).manifest.embedding_quantization == "q8f16_1"
    assert reads == [model, model]


def test_an_artifact_that_was_cut_is_converted_again(model: Path, reads: list[Path]) -> None:
    weights = find_artifact(BuildConfig(str(model))).canonical_weights
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    find_artifact(BuildConfig(str(model)))
    assert weights.read_bytes() == whole
    assert reads == [model]


@pytest.mark.parametrize("note", ["", "{}", "[1]", '["a", "b", "c"]', "\xff"])
def test_a_damaged_note_is_no_note(model: Path, reads: list[Path], note: str) -> None:
    (path,) = (model.parent / "home" / "known").iterdir()
    path.write_text(note, encoding="latin-1")
    find_artifact(BuildConfig(str(model)))
    assert reads == [model]


def test_every_part_of_a_split_model_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    KnownArtifact(first, BuildConfig(str(first))).write(tmp_path, "key")
    assert KnownArtifact(first, BuildConfig(str(first))).find() == (tmp_path, "key")
    second.write_bytes(b"22")
    assert KnownArtifact(first, BuildConfig(str(first))).find() is None
