"""The shape of a model, read from its Hugging Face ``config.json`` or its GGUF header."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvscape.config.fields import from_mapping
from kvscape.config.rope import UNSCALED, RopeScaling

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class LayerGroup:
    """Layers that share one KV pool and one window; ``sliding_window_size`` -1 sees everything."""

    layers: tuple[int, ...]
    sliding_window_size: int = -1


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder-only transformer, in Hugging Face's words.

    ``layer_types`` says FULL or SLIDING for each layer, () that all are alike: SLIDING where there is a
    ``sliding_window``. ``query_pre_attn_scalar`` None stands for ``head_dim``, ``rope_local_base_freq`` None for
    ``rope_theta``. ``attention_bias`` is that of queries, keys and values.
    """

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
    rope_scaling: RopeScaling = UNSCALED
    rope_local_base_freq: float | None = None
    partial_rotary_factor: float = 1.0
    hidden_act: str = "silu"
    attention_bias: bool = False
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    sliding_window: int | None = None
    layer_types: tuple[str, ...] = ()

    @property
    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Layers with the same window are one group; the group of the first layer comes first."""
        kinds = self.layer_types or (SLIDING,) * self.num_hidden_layers
        windows = [self.sliding_window or -1 if kind == SLIDING else -1 for kind in kinds]
        return tuple(
            LayerGroup(tuple(layer for layer, size in enumerate(windows) if size == window), window)
            for window in dict.fromkeys(windows)
        )

    @property
    def longest_context(self) -> int:
        """Tokens that the model was made for, those that yarn adds to its original context included."""
        scaling, made_for = self.rope_scaling, self.max_position_embeddings
        if scaling.rope_type != "yarn":
            return made_for
        return max(made_for, int(scaling.factor * (scaling.original_max_position_embeddings or made_for)))

    @property
    def group_size(self) -> int:
        """Query heads that share one key head."""
        return self.num_attention_heads // self.num_key_value_heads

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "ModelConfig":
        lists = {name: tuple(mapping.get(name, ())) for name in ("eos_token_ids", "layer_types")}
        scaling = RopeScaling.from_json(mapping.get("rope_scaling", {}))
        return from_mapping(cls, {**mapping, **lists, "rope_scaling": scaling}, "model")
