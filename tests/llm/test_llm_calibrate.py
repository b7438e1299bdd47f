"""A calibrated artefact is found by its text, and is never taken for another one."""

from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.artifact import Artifact
from kvscape.config import SELF, BuildConfig, Calibration
from kvscape.errors import ArtifactError, ConfigError
from kvscape.hub import Progress
from kvscape.llm import build
from kvscape.llm.build import Built, find_artifact
from kvscape.weights.convert import convert
from kvscape.weights.readers.gguf import GgufSource


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, Path | None]]:
    """The texts and writers of the calibrations that were begun; each only rounds plainly."""
    begun: list[tuple[str | None, Path | None]] = []

    def child(
        chosen: BuildConfig, model: str, nbytes: int, folder: Path, work: Path, writer: Path | None, progress: Progress
    ) -> None:
        begun.append((chosen.calibrate, writer))
        assert chosen.calibrate is not None
        text = "0" * 64 if chosen.calibrate == SELF else build._text(chosen.calibrate).sha256
        facts = Calibration(chosen.calibrate, text, 2048)
        (work / "layer-0.safetensors").touch()
        convert(GgufSource(Path(model)), folder, chosen.quantization, calibration=facts)

    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(build, "calibrate_in_child", child)
    return begun


@pytest.fixture
def chosen(tiny_gguf: Path, tmp_path: Path) -> BuildConfig:
    (tmp_path / "text.txt").write_text("some words", encoding="utf-8")
    return BuildConfig(str(tiny_gguf), "q4f16_1", calibrate=str(tmp_path / "text.txt"))


def test_each_text_has_an_artefact_of_its_own_that_is_made_once(children: list[object], chosen: BuildConfig) -> None:
    builds = [chosen, replace(chosen, calibrate="builtin"), replace(chosen, calibrate=None)]
    folders = [find_artifact(one).folder for one in builds]
    assert len(set(folders)) == 3
    assert [find_artifact(one).folder for one in builds] == folders
    assert len(children) == 2


def test_a_text_that_has_changed_is_another_text(children: list[object], chosen: BuildConfig) -> None:
    assert chosen.calibrate is not None
    first = find_artifact(chosen).folder
    Path(chosen.calibrate).write_text("some other words", encoding="utf-8")
    assert find_artifact(chosen).folder != first
    assert len(children) == 2


def test_its_own_text_is_written_by_the_model_as_the_file_has_it(
    children: list[tuple[str | None, Path | None]], chosen: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[BuildConfig] = []

    def noted(one: BuildConfig, progress: Progress) -> Built:
        built.append(one)
        return Built(Artifact(Path("/the/writer")), None, Path())  # type: ignore[arg-type]

    monkeypatch.setattr(build, "build_artifact", noted)
    find_artifact(replace(chosen, calibrate=SELF, embedding_quantization="q8f16_1", activation="float32"))
    assert children == [(SELF, Path("/the/writer"))]
    assert built == [BuildConfig(chosen.model)]  # whatever the artefact is built for, the text is the same


def test_what_a_calibration_kept_to_go_on_is_gone_at_its_end(
    children: list[object], chosen: BuildConfig, tmp_path: Path
) -> None:
    find_artifact(chosen)
    assert not list((tmp_path / "home" / "calibrations").iterdir())


def test_a_converted_folder_keeps_its_calibration(children: list[object], chosen: BuildConfig) -> None:
    folder = find_artifact(chosen).folder
    for calibrate in (None, chosen.calibrate):
        assert find_artifact(BuildConfig(str(folder), "q4f16_1", calibrate=calibrate)).folder == folder
    with pytest.raises(ArtifactError, match="builtin was asked for"):
        find_artifact(BuildConfig(str(folder), "q4f16_1", calibrate="builtin"))
    plain = find_artifact(replace(chosen, calibrate=None)).folder
    with pytest.raises(ArtifactError, match="calibrated on no text"):
        find_artifact(BuildConfig(str(plain), "q4f16_1", calibrate="builtin"))


@pytest.mark.parametrize("quantization", ["auto", "q0f16", "q0f32"])
def test_what_is_not_rounded_cannot_be_calibrated(quantization: str) -> None:
    with pytest.raises(ConfigError, match="name a quantization of 3, 4 or 8 bits"):
        BuildConfig(quantization=quantization, calibrate="builtin")
    assert BuildConfig(quantization=quantization, calibrate="none").calibrate is None
