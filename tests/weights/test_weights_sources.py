"""Which reader a path needs."""

import shutil
from pathlib import Path

import pytest

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.weights.readers.gguf import GgufSource
from kvscape.weights.readers.huggingface import HuggingFaceSource
from kvscape.weights.sources import gguf_file, open_source
from tiny_folder import write_json, write_tiny_folder


def test_a_gguf_file_and_a_folder_with_one(tiny_gguf: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_gguf, tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    for path in (tiny_gguf, tmp_path):
        assert isinstance(open_source(path), GgufSource)


def test_a_hugging_face_folder(tmp_path: Path) -> None:
    assert isinstance(open_source(write_tiny_folder(tmp_path / "tiny")), HuggingFaceSource)


def test_a_folder_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"it holds no config\.json, no mlc-chat-config\.json and no \.gguf file; give"
    ):
        open_source(tmp_path)
    with pytest.raises(WeightsError, match=r"it holds no \.gguf file; give one \.gguf file"):
        gguf_file(tmp_path)


def test_two_gguf_files(tiny_gguf: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(tiny_gguf, tmp_path / name)
    with pytest.raises(WeightsError, match=r"it holds 2 \.gguf files"):
        open_source(tmp_path)


def test_a_models_variant_that_would_not_run_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path / "tiny", hidden_act="relu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match="hidden_act = relu is not supported"):
        open_source(folder)
