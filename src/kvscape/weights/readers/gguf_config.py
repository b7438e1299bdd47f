"""A model's shape from the metadata of its GGUF file. Source: the keys that llama.cpp's ``llama-arch.cpp`` reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvscape.config import ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError

# GGUF's name of an architecture: Hugging Face's model_type.
ARCHITECTURES = {"llama": "llama"}


def model_config(metadata: Mapping[str, Any], vocab_size: int, tie_word_embeddings: bool) -> ModelConfig:
    """Return the shape; raise UnsupportedModelError for an architecture that is not implemented, WeightsError for
    a key that is missing or of the wrong kind."""
    keys = _Keys(metadata, _architecture(metadata))
    _refuse_variants(keys)
    heads = keys.whole("attention.head_count")
    hidden_size = keys.whole("embedding_length")
    config = ModelConfig(
        model_type=ARCHITECTURES[keys.architecture],
        hidden_size=hidden_size,
        intermediate_size=keys.whole("feed_forward_length"),
        num_hidden_layers=keys.whole("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=keys.whole("attention.head_count_kv", heads),
        head_dim=_head_dim(keys, hidden_size // heads),
        vocab_size=vocab_size,
        rms_norm_eps=keys.real("attention.layer_norm_rms_epsilon"),
        rope_theta=keys.real("rope.freq_base", 10000.0),
        max_position_embeddings=keys.whole("context_length"),
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=_bos(metadata, vocab_size),
        eos_token_ids=_ends(metadata, vocab_size),
    )
    if config.num_attention_heads % config.num_key_value_heads:
        raise keys.wrong("attention.head_count_kv", "does not divide attention.head_count")
    return config


class _Keys:
    """Metadata of one architecture, each value checked for its kind."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self.metadata, self.architecture = metadata, architecture

    def find(self, name: str) -> Any:
        return self.metadata.get(f"{self.architecture}.{name}")

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, f"is {value!r}, not a positive whole number")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.wrong(name, f"is {value!r}, not a positive number")
        # GGUF holds f32; the shortest decimal that is the same f32 is what the model's author wrote (1e-05).
        return float(str(np.float32(value)))

    def wrong(self, name: str, why: str) -> WeightsError:
        return WeightsError(f"metadata {self.architecture}.{name}", why, "use another file of this model")

    def _required(self, name: str, default: float | None) -> Any:
        value = self.find(name)
        if value is None and default is None:
            raise self.wrong(name, "is missing")
        return default if value is None else value


def _architecture(metadata: Mapping[str, Any]) -> str:
    architecture = metadata.get("general.architecture")
    if architecture is None:
        raise WeightsError("metadata general.architecture", "is missing", "use a GGUF file of a language model")
    if architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is not supported", "", f"use a model of {', '.join(ARCHITECTURES)}"
        )
    return str(architecture)


def _refuse_variants(keys: _Keys) -> None:
    if keys.find("expert_count"):
        raise UnsupportedModelError(f"{keys.architecture} with experts is not supported", "", "use a dense model")
    scaling = keys.find("rope.scaling.type")
    if scaling not in (None, "none"):
        raise UnsupportedModelError(f"RoPE scaling {scaling!r} is not supported", "", "use a model without it")


def _head_dim(keys: _Keys, default: int) -> int:
    rotated = keys.whole("rope.dimension_count", keys.find("attention.key_length") or default)
    head_dim = keys.whole("attention.key_length", rotated)
    if not head_dim == rotated == keys.whole("attention.value_length", head_dim):
        raise UnsupportedModelError(
            "heads whose keys, values and rotated part differ in size are not supported", "", "use another model"
        )
    if head_dim % 2:
        raise keys.wrong("rope.dimension_count", f"is {head_dim}, not even")
    return head_dim


def _bos(metadata: Mapping[str, Any], vocab_size: int) -> int | None:
    """The token that must begin a text; None where the model was trained without one."""
    if not metadata.get("tokenizer.ggml.add_bos_token", False):
        return None
    return _token(metadata, "bos", vocab_size)


def _ends(metadata: Mapping[str, Any], vocab_size: int) -> tuple[int, ...]:
    ids = (_token(metadata, name, vocab_size) for name in ("eos", "eot"))
    return tuple(dict.fromkeys(token for token in ids if token is not None))


def _token(metadata: Mapping[str, Any], name: str, vocab_size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = metadata.get(key)
    if value is not None and (not isinstance(value, int) or not 0 <= value < vocab_size):
        raise WeightsError(f"metadata {key}", f"is {value!r}, not a token", "use another file of this model")
    return value
