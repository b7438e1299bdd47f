"""Folders that transformers saves, one of each model type: the same probabilities, where the reference is installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvscape import LLM
from tiny_folder import write_tokenizer

torch = pytest.importorskip("torch", reason="the reference extra (torch, transformers) is not installed")
transformers = pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")

IDS = [5, 17, 80, 4, 260, 33, 91, 7, 7, 120, 44, 3, 3, 250, 61, 90, 12, 300, 2, 9]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LOCAL = {"rope_type": "default", "rope_theta": 2e4}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {**LLAMA3, "rope_theta": 5e5, "original_max_position_embeddings": 32}},
    "mistral": {"sliding_window": 8, "head_dim": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": {"head_dim": 32, "tie_word_embeddings": True},
    "gemma2": {"sliding_window": 8, "head_dim": 16, "query_pre_attn_scalar": 24},
    "gemma3_text": {
        "sliding_window": 8,
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2e6},
            "sliding_attention": LOCAL,
        },
    },
    "phi3": {"sliding_window": 8},
}


@pytest.mark.parametrize("model_type", MODELS)
def test_every_token_has_the_same_probability(model_type: str, tmp_path: Path, open_llm: Callable[..., LLM]) -> None:
    from reference import reference_logprobs  # needs torch

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **SIZES, **MODELS[model_type])
    config._attn_implementation = "eager"
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, tensor in theirs.named_parameters():
        with torch.no_grad():  # what transformers begins with hides mistakes: norms of one, biases of zero
            tensor.add_(torch.randn_like(tensor) * (0.1 if "norm" in name or "bias" in name else 0.05))
    theirs.save_pretrained(tmp_path / model_type)
    write_tokenizer(tmp_path / model_type)
    with open_llm(tmp_path / model_type, quantization="q0f32", kv_dtype="f32") as llm:
        np.testing.assert_allclose(llm.score(IDS), reference_logprobs(theirs, IDS), atol=1e-4)
