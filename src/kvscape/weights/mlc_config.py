"""``mlc-chat-config.json``: MLC-LLM's words for a model's shape, from and to Hugging Face's.

Source: the configuration classes of MLC-LLM's models and its ``protocol/mlc_chat_config.py``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kvscape.config import SLIDING, ModelConfig
from kvscape.weights.hf_config import hf_config

FILE = "mlc-chat-config.json"
# The format of quantized tensors by MLC's name of a quantization; those that end in _0 lie the other way round.
QUANTIZATIONS: Mapping[str, str] = MappingProxyType(
    {
        "q0f16": "f16",
        "q0bf16": "f16",
        "q0f32": "f32",
        "q3f16_1": "q3f16_1",
        "q4f16_1": "q4f16_1",
        "q4f16_2": "q4f16_1",  # embedding and head are not quantized
        "q4f32_1": "q4f32_1",
        "q8f16_1": "q8f16_1",
        "q8f32_1": "q8f32_1",
    }
)
# 0 stands for "not said" in MLC's configurations.
_MAY_BE_ZERO = (
    "position_embedding_base",
    "rope_theta",
    "rope_scaling",
    "original_max_position_embeddings",
    "head_dim",
    "num_key_value_heads",
)


def hf_words(chat_config: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    """Return what config.json would say of ``mlc-chat-config.json``'s model; ``tied``: it has no head of its own."""
    model_type = chat_config.get("model_type")
    outer = _plain(chat_config.get("model_config"))
    inner = _plain(outer.get("text_config"))
    model_type = "gemma3_text" if model_type == "gemma3" else model_type
    words = {**{n: v for n, v in outer.items() if n != "text_config" and v != -1}, **inner}
    return {**words, **_length(words), **_rope(words), **_window(words, model_type), "model_type": model_type} | {
        "tie_word_embeddings": tied
    }


def _plain(config: Any) -> dict[str, Any]:
    """A configuration with what its class did not know in its place, and without zeros that say nothing."""
    if not isinstance(config, dict):
        return {}
    more = config.get("kwargs")
    merged = {**(more if isinstance(more, dict) else {}), **{n: v for n, v in config.items() if n != "kwargs"}}
    return {n: v for n, v in merged.items() if not (n in _MAY_BE_ZERO and v in (0, None))}


def _length(words: Mapping[str, Any]) -> dict[str, Any]:
    """``context_window_size`` is the model's length, unless it was made smaller and the length is there too."""
    own = words.get("max_position_embeddings") or words.get("context_window_size")
    return {} if own in (None, -1, 0) else {"max_position_embeddings": own}


def _rope(words: Mapping[str, Any]) -> dict[str, Any]:
    theta = words.get("rope_theta", words.get("position_embedding_base"))
    return {} if theta is None else {"rope_theta": theta}


def _window(words: Mapping[str, Any], model_type: Any) -> dict[str, Any]:
    window = words.get("sliding_window_size", words.get("sliding_window"))
    if window is None and model_type == "mistral":
        return {"sliding_window": None}
    return {} if window is None else {"sliding_window": window}


def mlc_model_config(model: ModelConfig) -> dict[str, Any]:
    """Return ``model_config`` of ``mlc-chat-config.json``: Hugging Face's words, and MLC's own beside them."""
    words = {n: v for n, v in hf_config(model).items() if n not in ("architectures", "bos_token_id", "eos_token_id")}
    window = model.sliding_window if SLIDING in (model.layer_types or (SLIDING,)) else None
    return {
        **words,
        "position_embedding_base": model.rope_theta,
        "context_window_size": model.max_position_embeddings,
        "sliding_window_size": window or -1,
        "prefill_chunk_size": min(model.max_position_embeddings, 2048),
        "tensor_parallel_shards": 1,
        "max_batch_size": 80,
    }
