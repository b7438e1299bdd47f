"""The protocol ``llamacpp`` through llama.cpp itself, on the same file, where the ``peers`` extra is installed."""

from pathlib import Path

import pytest

from built_tiny import BuildTiny
from kvscape.config import BuildConfig, DesignPoint, EngineConfig
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.plain_text import built_in_text
from kvscape.quality import Settings, perplexity, quality_point
from kvscape.quality.cut_text import cut_text
from kvscape.subjects import loaded_subject

pytest.importorskip("llama_cpp", reason="the peers extra (llama-cpp-python) is not installed")

SETTINGS = Settings("llamacpp", context=128, limit=4)


def test_the_perplexity_of_a_file_is_that_of_llama_cpp(tiny_gguf: Path, built_tiny: BuildTiny) -> None:
    point = DesignPoint(BuildConfig(str(tiny_gguf)), EngineConfig(kv_dtype="f32"), subject="llamacpp", threads=2)
    with loaded_subject(quality_point(point, SETTINGS)) as llama:
        windows = cut_text(llama, built_in_text(), SETTINGS).windows
        theirs = perplexity(llama, windows)
    built = built_tiny("q0f32")
    ours = perplexity(
        Engine(CpuDevice(built.library, built.packed_weights, threads=2), EngineConfig(128, kv_dtype="f32")), windows
    )
    assert ours.tokens_scored == theirs.tokens_scored == 4 * 63
    assert ours.perplexity == pytest.approx(theirs.perplexity, rel=0.003)
    assert ours.bits_per_byte == pytest.approx(theirs.bits_per_byte, rel=0.003)
