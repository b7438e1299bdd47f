"""A model that runs stage by stage, with its products in numpy, is the model that transformers says it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architectures import ARCHITECTURES, TOKENS, RandomSource
from kvscape.calibration.layer_inputs import LayerInputs
from kvscape.calibration.round_layers import embedded
from kvscape.compiler.stages import compile_stages
from kvscape.compiler.target import detect_target
from kvscape.engine.devices.stages import CpuStages
from kvscape.quantization.arrays import F32
from kvscape.quantization.scheme import EMBEDDING, HEAD, Scheme
from kvscape.weights.write_weights import Weights

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "architectures.json").read_text(encoding="utf-8")
)
WINDOWS = np.array([TOKENS[::-1], TOKENS], np.int32)


def run_exactly(name: str, weights: Weights, stages: CpuStages) -> F32:
    """What the last norm leaves of all tokens of ``WINDOWS``, after products with the weights as they are."""
    config = ARCHITECTURES[name]
    x = embedded(weights, WINDOWS.reshape(-1), rounded=False) * np.float32(stages.metadata.embedding_scale)
    for layer in range(config.num_hidden_layers):
        inputs = LayerInputs(weights, config, stages, layer, x, WINDOWS.size)
        for _ in stages.metadata.products:
            matrix, seen = inputs.next_inputs()
            assert seen.shape == (WINDOWS.size, weights.tensors[matrix].shape[1])
            inputs.give(weights.tensors[matrix].values())
        x, normed = inputs.next_states()
    return normed


@pytest.mark.parametrize("name", ["qwen2", "gemma3_text", "phi3"])  # what the others have, one of these has
def test_the_stages_give_the_architectures_logits(name: str, tmp_path: Path) -> None:
    config, golden = ARCHITECTURES[name], GOLDEN["architectures"][name]["logits"]
    compile_stages(config, detect_target(), tmp_path / "stages.tar")
    stages = CpuStages(tmp_path / "stages.tar", config, len(WINDOWS), len(TOKENS), 2)
    weights = Weights.of(RandomSource(config), Scheme("q0f32"))
    head = weights.tensors[EMBEDDING if config.tie_word_embeddings else HEAD].values()
    logits = run_exactly(name, weights, stages)[-len(TOKENS) :][GOLDEN["rows"]] @ head.T
    if cap := config.final_logit_softcapping:
        logits = cap * np.tanh(logits / cap)
    np.testing.assert_allclose(logits, golden, atol=1e-4 * np.ptp(golden))
