"""The keys of libraries and kernels: different for all that changes the code, equal otherwise."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.compiler import key
from kvscape.compiler.key import kernel_key, library_key
from kvscape.compiler.target import CpuTarget, find_target
from kvscape.config import ModelConfig

MODEL = ModelConfig("llama", 64, 128, 2, 4, 2, 16, 320, 1e-5, 1e4, 256, True, 1, (2,))
FORMATS = {"a": "q4f16_1", "b": "q8f16_1"}
Given = dict[str, Any]


def given(**changes: Any) -> Given:
    plain = {"config": MODEL, "formats": FORMATS, "target": find_target("avx2"), "activation": "int8", "overrides": {}}
    return {**plain, **changes}


def test_equal_ingredients_have_an_equal_key() -> None:
    other_order = given(formats={"b": "q8f16_1", "a": "q4f16_1"}, overrides=None, config=replace(MODEL))
    assert library_key(**given()) == library_key(**other_order)
    two = {"context_window_size": 128, "page_size": 32}
    backwards = dict(reversed(two.items()))
    assert library_key(**given(overrides=two)) == library_key(**given(overrides=backwards))


@pytest.mark.parametrize(
    "changes",
    [
        {"target": find_target("generic")},
        {"target": find_target("avx512vnni")},
        {"activation": "float32"},
        {"formats": {**FORMATS, "b": "q4f16_1"}},
        {"formats": {"a": "q4f16_1"}},
        {"overrides": {"page_size": 32}},
        {"kv_dtypes": ("k=int8,v=int4",)},
        {"config": replace(MODEL, hidden_size=96)},
        {"config": replace(MODEL, rms_norm_eps=1e-6)},
        {"config": replace(MODEL, rope_theta=5e5)},
        {"config": replace(MODEL, tie_word_embeddings=False)},
        {"config": replace(MODEL, eos_token_ids=(2, 3))},
        {"config": replace(MODEL, num_key_value_heads=4)},
        {"config": replace(MODEL, max_position_embeddings=512)},
    ],
    ids=str,
)
def test_every_ingredient_changes_it(changes: Given) -> None:
    assert library_key(**given(**changes)) != library_key(**given())


@pytest.mark.parametrize(
    ("name", "value"),
    [("version", lambda package: f"{package} 99"), ("sources_sha256", lambda: "another")],
)
def test_versions_and_sources_change_it(monkeypatch: pytest.MonkeyPatch, name: str, value: Callable[..., str]) -> None:
    before = library_key(**given())
    monkeypatch.setattr(key, name, value)
    assert library_key(**given()) != before


@pytest.mark.parametrize(
    ("target", "facts"),
    [
        (find_target("generic"), ("scale_8", "0.5")),
        (replace(find_target("avx2"), mattr=("+avxvnni",)), ("scale_8", "0.5")),
        (replace(find_target("avx2"), name="another"), ("scale_8", "0.5")),
        (find_target("avx2"), ("scale_8", "0.25")),
        (find_target("avx2"), ("scale_80.5",)),
    ],
)
def test_every_ingredient_of_a_kernel_changes_its_key(target: CpuTarget, facts: tuple[str, ...]) -> None:
    before = kernel_key(find_target("avx2"), ("scale_8", "0.5"))
    assert before == kernel_key(replace(find_target("avx2")), ["scale_8", "0.5"])
    assert kernel_key(target, facts) != before


def test_it_begins_with_what_a_reader_wants_to_know() -> None:
    assert library_key(**given()).startswith("avx2-int8-")


def test_sources_are_those_of_kernels_models_and_layouts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in key._SOURCES:
        assert (key._PACKAGE / name).exists()
    paths = ["compiler/kernels/cpu/new.py", "models/llama.py", "quantization/layouts/x.py", *key._SOURCES[3:]]
    for path in [*paths, "engine/engine.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("old")
    monkeypatch.setattr(key, "_PACKAGE", tmp_path)
    seen = {sha256()}
    for path in paths:
        (tmp_path / path).write_text("new")
        seen.add(sha256())
    assert len(seen) == 1 + len(paths), "each change gives a new hash"
    (tmp_path / "engine/engine.py").write_text("new")
    assert sha256() in seen


def sha256() -> str:
    key.sources_sha256.cache_clear()
    try:
        return key.sources_sha256()
    finally:
        key.sources_sha256.cache_clear()


def test_a_key_is_found_without_tvm() -> None:
    """So that a process that finds its library compiled never loads the compiler."""
    code = "import sys, kvscape.compiler.key, kvscape.compiler.target; print('tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
