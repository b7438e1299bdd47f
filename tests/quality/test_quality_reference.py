"""``windows`` and ``stride`` of a tiny model beside transformers' own loss, where the ``reference`` extra is installed.

Of the default model they are in ``tests/llm/test_llm_reference.py``.
"""

from pathlib import Path

import numpy as np
import pytest

from built_tiny import BuildTiny
from kvscape.config import EngineConfig
from kvscape.engine import Engine
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.quality import Settings, perplexity
from kvscape.quality.protocols import cut

pytest.importorskip("torch", reason="the reference extra (torch, transformers) is not installed")
pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")

from reference import load_reference, reference_stride, reference_windows

WINDOWS, STRIDE = Settings("windows", 96), Settings("stride", 96, stride=40)


@pytest.mark.parametrize("tokens", [300, 336])  # a last window that is short, and one that is whole
def test_a_tiny_model_has_the_losses_of_transformers(tokens: int, tiny_gguf: Path, built_tiny: BuildTiny) -> None:
    built = built_tiny("q0f32")
    engine = Engine(CpuDevice(built.library, built.packed_weights, threads=2), EngineConfig(96, kv_dtype="f32"))
    model, token_ids = load_reference(tiny_gguf), np.random.default_rng(5).integers(3, 320, tokens).tolist()
    windows, stride = (perplexity(engine, cut(token_ids, settings)).perplexity for settings in (WINDOWS, STRIDE))
    assert windows == pytest.approx(reference_windows(model, token_ids, 96), rel=1e-4)
    assert stride == pytest.approx(reference_stride(model, token_ids, 96, 40), rel=1e-4)
    assert windows != pytest.approx(stride, rel=1e-3)
