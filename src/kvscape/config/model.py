"""The shape of a model, read from its Hugging Face ``config.json`` or its GGUF header."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvscape.config.fields import from_mapping


@dataclass(frozen=True)
class LayerGroup:
    """Layers that share one KV pool and one window; ``sliding_window_size`` -1 sees everything."""

    layers: tuple[int, ...]
    sliding_window_size: int = -1


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder-only transformer, in Hugging Face's words."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @property
    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """One group holds all layers unless a model alternates windows."""
        return (LayerGroup(tuple(range(self.num_hidden_layers))),)

    @property
    def group_size(self) -> int:
        """Query heads that share one key head."""
        return self.num_attention_heads // self.num_key_value_heads

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "ModelConfig":
        return from_mapping(cls, {**mapping, "eos_token_ids": tuple(mapping.get("eos_token_ids", ()))}, "model")
