"""A model's shape from its GGUF file. Source: what llama.cpp's ``llama-arch.cpp`` and ``llama-model.cpp`` read."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from kvscape.config import FULL, SLIDING, ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.quantization.arrays import F32
from kvscape.weights.mapping import FREQUENCIES
from kvscape.weights.readers.gguf_files import GgufFiles
from kvscape.weights.readers.gguf_keys import Keys
from kvscape.weights.readers.gguf_rope import read_rope
from kvscape.weights.readers.gguf_tokens import bos_token_id, eos_token_ids

# GGUF's name of an architecture: Hugging Face's model_type. Mistral's models are called llama.
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "llama": "llama",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "gemma2": "gemma2",
        "gemma3": "gemma3_text",
        "phi3": "phi3",
    }
)
# Every so-manieth layer sees all, the others a window; GGUF did not say it at first.
_PATTERNS = {"gemma2": 2, "gemma3": 6}
# Layers of the models of 27 billion weights, whose queries are scaled by hidden_size / heads instead of head_dim.
_LAYERS_27B = {"gemma2": 46, "gemma3": 62}


def read_config(files: GgufFiles) -> ModelConfig:
    """Return the shape of a file's model, as ``model_config`` does."""
    tokens = files.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise WeightsError(
            f"{files.paths[0]} has no tokens", "tokenizer.ggml.tokens is missing", "use another file of this model"
        )
    _check_depth(files)
    factors = {name: files.values(name) for name in FREQUENCIES if name in files.tensors}
    config = model_config(files.metadata, len(tokens), "output.weight" not in files.tensors, factors)
    return replace(config, attention_bias="blk.0.attn_q.bias" in files.tensors)


def _check_depth(files: GgufFiles) -> None:
    """A damaged number of layers must not make a list of billions of names."""
    layers, count = files.metadata.get(f"{files.metadata.get('general.architecture')}.block_count"), len(files.tensors)
    if isinstance(layers, int) and layers > count:
        raise WeightsError(f"{files.paths[0]} is incomplete", f"{layers} layers, {count} tensors", "download again")


def model_config(
    metadata: Mapping[str, Any],
    vocab_size: int,
    tie_word_embeddings: bool,
    factors: Mapping[str, F32] = MappingProxyType({}),
) -> ModelConfig:
    """Return the shape; ``factors`` are the tensors of rotary frequencies.

    Raises UnsupportedModelError for an architecture that is not implemented, WeightsError for a key that is missing or
    of the wrong kind.
    """
    keys = Keys(metadata, _architecture(metadata))
    if keys.find("expert_count"):
        raise UnsupportedModelError(f"{keys.architecture} with experts is not supported", "", "use a dense model")
    heads = keys.whole("attention.head_count")
    hidden_size = keys.whole("embedding_length")
    head_dim, rotated = _head_dim(keys, hidden_size // heads)
    theta = keys.real("rope.freq_base", 10000.0)
    config = ModelConfig(
        model_type=ARCHITECTURES[keys.architecture],
        hidden_size=hidden_size,
        intermediate_size=keys.whole("feed_forward_length"),
        num_hidden_layers=keys.whole("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=keys.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        vocab_size=vocab_size,
        rms_norm_eps=keys.real("attention.layer_norm_rms_epsilon"),
        rope_theta=theta,
        max_position_embeddings=keys.whole("context_length"),
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=bos_token_id(metadata, vocab_size),
        eos_token_ids=eos_token_ids(metadata, vocab_size),
        rope_scaling=read_rope(keys, theta, rotated // 2, factors),
        partial_rotary_factor=rotated / head_dim,
    )
    if config.num_attention_heads % config.num_key_value_heads:
        raise keys.wrong("attention.head_count_kv", "does not divide attention.head_count")
    return _gemma(keys, config) if keys.architecture in _PATTERNS else _windowed(keys, config)


def _architecture(metadata: Mapping[str, Any]) -> str:
    architecture = metadata.get("general.architecture")
    if architecture is None:
        raise WeightsError("metadata general.architecture", "is missing", "use a GGUF file of a language model")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is not supported", "", f"use a model of {', '.join(ARCHITECTURES)}"
        )
    return architecture


def _head_dim(keys: Keys, default: int) -> tuple[int, int]:
    """Dimensions of a head, and how many of them are rotated."""
    rotated = keys.optional_whole("rope.dimension_count")
    head_dim = keys.whole("attention.key_length", default if keys.architecture == "phi3" else rotated or default)
    rotated = rotated or head_dim
    if head_dim != keys.whole("attention.value_length", head_dim) or rotated > head_dim:
        raise UnsupportedModelError(
            "heads whose keys, values and rotated part differ in size are not supported", "", "use another model"
        )
    if rotated % 2 or head_dim % 2:
        raise keys.wrong("rope.dimension_count", f"is {rotated}, not even")
    return head_dim, rotated


def _windowed(keys: Keys, config: ModelConfig) -> ModelConfig:
    """With a window, what GGUF calls llama is Mistral's."""
    window = keys.optional_whole("attention.sliding_window")
    model_type = "mistral" if window and config.model_type == "llama" else config.model_type
    return replace(config, model_type=model_type, sliding_window=window)


def _gemma(keys: Keys, config: ModelConfig) -> ModelConfig:
    gemma2 = keys.architecture == "gemma2"
    window = keys.optional_whole("attention.sliding_window") or (4096 if gemma2 else None)
    of_27b = config.num_hidden_layers == _LAYERS_27B[keys.architecture]
    return replace(
        config,
        hidden_act="gelu_pytorch_tanh",
        query_pre_attn_scalar=config.hidden_size / config.num_attention_heads if of_27b else float(config.head_dim),
        attn_logit_softcapping=(keys.optional_real("attn_logit_softcapping") or 50.0) if gemma2 else None,
        final_logit_softcapping=keys.optional_real("final_logit_softcapping") or (30.0 if gemma2 else None),
        sliding_window=window,
        layer_types=_layer_types(keys, config.num_hidden_layers) if window else (),
        rope_local_base_freq=None if gemma2 else keys.optional_real("rope.freq_base_swa") or 10000.0,
    )


def _layer_types(keys: Keys, layers: int) -> tuple[str, ...]:
    given = keys.find("attention.sliding_window_pattern")
    if isinstance(given, list):
        if len(given) != layers or not all(isinstance(flag, bool) for flag in given):
            raise keys.wrong("attention.sliding_window_pattern", f"does not say yes or no for each of {layers} layers")
        return tuple(SLIDING if flag else FULL for flag in given)
    pattern = keys.whole("attention.sliding_window_pattern", _PATTERNS[keys.architecture])
    return tuple(SLIDING if (layer + 1) % pattern else FULL for layer in range(layers))
