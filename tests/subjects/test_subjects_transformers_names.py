"""What is refused, and the arithmetic: neither needs torch."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.errors import ConfigError, DeviceError, KvscapeError
from kvscape.subjects import find_local, loaded_subject
from kvscape.subjects.transformers import check_point, predict
from kvscape.subjects.transformers.library import find_library
from kvscape.subjects.transformers.memory import bits_per_weight, weights_bytes
from kvscape.weights.convert import convert
from kvscape.weights.readers.gguf import GgufSource


@pytest.mark.parametrize(
    ("build", "engine", "says"),
    [
        ({"quantization": "q3f16_1"}, {}, "transformers has no quantization 'q3f16_1'; use fake_q3"),
        ({"quantization": "fake_q5"}, {}, "did you mean 'fake_q"),
        ({"quantization": "fake_q3", "embedding_quantization": "q9"}, {}, "unknown embedding quantization 'q9'"),
        ({"quantization": "q0f16", "embedding_quantization": "q8f16_1"}, {}, "q0f16 rounds no embedding"),
        ({"quantization": "fake_q3", "calibrate": "self"}, {}, "leave calibrate out"),
        ({}, {"kv_dtype": "int8"}, "no KV precision int8: its cache holds floats; use f16 or f32"),
        ({}, {"kv_dtype": "k=int8,v=int4"}, "no KV precision k=int8,v=int4"),
        ({}, {"sliding_window_size": 64}, "leave sliding_window_size out"),
        ({}, {"sliding_window_size": 64, "attention_sink_size": 4}, "leave sliding_window_size out"),
        ({}, {"page_size": 32}, "transformers has no page_size = 32: its knobs are quantization"),
        ({}, {"max_total_sequence_length": 64}, "leave max_total_sequence_length out"),
    ],
)
def test_what_transformers_lacks_is_refused(build: dict[str, Any], engine: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_point(DesignPoint(BuildConfig(**build), EngineConfig(**engine)))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("asked", [{"request_rate": 2.0}, {"num_requests": 8}])
def test_it_runs_all_requests_together(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"transformers has no {next(iter(asked))} = "):
        check_point(DesignPoint(workload=Workload(**asked)))


@pytest.mark.parametrize("device", ["vulkan:0", "cuda:x", "mps"])
def test_a_device_that_it_does_not_know_is_said(device: str) -> None:
    with pytest.raises(DeviceError, match=f"no device '{device}'"):
        check_point(DesignPoint(BuildConfig(device=device)))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_says_how_to_get_it(package: str, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)  # any module: what comes first must not be what fails
    monkeypatch.setitem(sys.modules, package, None)
    find_library.cache_clear()
    point = DesignPoint(BuildConfig(str(tiny_gguf)), subject="transformers")
    with pytest.raises(KvscapeError) as error, loaded_subject(point):
        pass
    find_library.cache_clear()
    assert f"{package} is missing" in str(error.value)
    assert "pip install 'kvscape[reference]'" in str(error.value) and "\n" not in str(error.value)


def test_the_cache_is_predicted_full(tiny_gguf: Path) -> None:
    model, config = GgufSource(tiny_gguf).config, EngineConfig(context_window_size=300, max_batch_size=2)
    per_token = 2 * 2 * 2 * 16 * 2  # layers, K and V, heads, dimension, bytes
    assert predict(model, config, 1000).kv_cache_bytes == 2 * 300 * per_token
    assert predict(model, replace(config, kv_dtype="f32"), 1000).kv_bytes_per_token == 2 * per_token
    assert find_local("transformers").predict(model, config, 1000, {}) == predict(model, config, 1000)


def test_a_layer_with_a_window_keeps_no_more(tiny_gguf: Path) -> None:
    model = replace(
        GgufSource(tiny_gguf).config, sliding_window=10, layer_types=("sliding_attention", "full_attention")
    )
    config = EngineConfig(context_window_size=300)
    assert predict(model, config, 0).kv_cache_bytes == (10 + 300) * 2 * 2 * 16 * 2


def test_rounded_weights_take_the_room_of_floats_and_count_as_their_format(tiny_gguf: Path, tmp_path: Path) -> None:
    source = GgufSource(tiny_gguf)
    weights = 320 * 64 + 2 * 64 * (64 + 64 + 64 + 3 * 128) + 5 * 64
    rounded = BuildConfig(quantization="fake_q4", embedding_quantization="q8f16_1")
    assert weights_bytes(source.config, rounded) == 4 * weights
    artifact = convert(source, tmp_path / "q4", "q4f16_1", "q8f16_1")
    assert bits_per_weight(source.config, rounded) == pytest.approx(artifact.manifest.bits_per_weight)
    assert bits_per_weight(source.config, BuildConfig(quantization="q0bf16")) == 16
    assert weights_bytes(source.config, BuildConfig(device="cuda:0")) == 2 * weights


def test_bitsandbytes_leaves_embedding_and_norms_as_they_are(tiny_gguf: Path) -> None:
    model = GgufSource(tiny_gguf).config
    others, linear, rows = 320 * 64 + 5 * 64, 2 * 64 * (64 + 64 + 64 + 3 * 128), 2 * (64 + 64 + 64 + 2 * 128 + 64)
    assert weights_bytes(model, BuildConfig(quantization="8bit")) == 4 * others + linear + 4 * rows
    assert weights_bytes(model, BuildConfig(quantization="4bit")) == 4 * others + linear // 2 + linear // 16
