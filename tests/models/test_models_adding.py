"""docs/adding-a-model.md by its own words: its file, its line and its tiny model are what a new architecture takes."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from architecture_engine import engine
from numpy_model import NumpyModel
from safetensors.numpy import save_file

import kvscape.models
from architectures import ARCHITECTURES, TOKENS, random_weights, tiny
from built_tiny import build_source
from kvscape.config import ModelConfig
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.errors import UnsupportedModelError
from kvscape.models import check_model, registry
from kvscape.models.registry import Architecture
from kvscape.quantization.arrays import Array
from kvscape.weights.hf_config import hf_config
from kvscape.weights.sources import open_source
from tiny_folder import write_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"
FILE, LINE, MODEL = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelConfig]:
    """The page's tiny model, with the file in the package of models and the line in the registry."""
    config: ModelConfig = eval(f"{{{MODEL}}}", {"tiny": tiny})["gemma"]
    with pytest.raises(UnsupportedModelError, match="'gemma' is not supported"):
        check_model(config)
    (tmp_path / "gemma.py").write_text(FILE, encoding="utf-8")
    monkeypatch.setattr(kvscape.models, "__path__", [*kvscape.models.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    line = eval(f"{{{LINE}}}", {"Architecture": Architecture})
    monkeypatch.setattr(registry, "MODELS", MappingProxyType({**registry.MODELS, **line}))
    yield config
    sys.modules.pop("kvscape.models.gemma", None)


def write_folder(folder: Path, config: ModelConfig) -> Path:
    """What transformers would save: norms without their 1, projections apart."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(hf_config(config)), encoding="utf-8")
    keys = config.num_key_value_heads * config.head_dim
    queries = config.num_attention_heads * config.head_dim
    tensors: dict[str, Array] = {}
    for name, array in random_weights(config).items():
        for joined, parts, rows in (
            ("qkv_proj", ("q_proj", "k_proj", "v_proj"), [queries, queries + keys]),
            ("gate_up_proj", ("gate_proj", "up_proj"), [config.intermediate_size]),
        ):
            if name.endswith(joined):
                pieces = zip(parts, np.split(array, rows), strict=True)
                tensors |= {f"{name.replace(joined, part)}.weight": np.ascontiguousarray(one) for part, one in pieces}
                break
        else:
            tensors[f"{name}.weight"] = array - np.float32(name.endswith("norm"))
    save_file(tensors, folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def test_a_model_is_a_file_a_line_and_a_tiny_model(config: ModelConfig, tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path / "gemma", config))
    assert replace(source.config, bos_token_id=None, eos_token_ids=()) == config
    built = build_source(source, tmp_path / "built", "q0f32", ("f32",))
    reference = NumpyModel(built.artifact)
    logits = reference.logits(TOKENS)[:-1]
    expected = logits[np.arange(len(logits)), TOKENS[1:]] - np.log(np.exp(logits).sum(-1))
    got = engine(CpuDevice(built.library, built.packed_weights, threads=2)).score(TOKENS)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_the_files_that_the_page_names_are_there() -> None:
    text, root = PAGE.read_text(encoding="utf-8"), PAGE.parents[1]
    places = [root, root / "src" / "kvscape", root / "src" / "kvscape" / "compiler" / "kernels" / "cpu"]
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any((place / name).is_file() for place in places), name
    assert "gemma" not in ARCHITECTURES, "the page's example must not be there"
