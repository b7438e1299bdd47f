"""A tiny model of every architecture, with all that the architecture has: random weights that come from a seed.

Windows are crossed and RoPE scaling is active within the 300 tokens that the golden files hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from kvscape.config import FULL, SLIDING, ModelConfig, RopeScaling
from kvscape.models.registry import find_architecture
from kvscape.quantization.arrays import Array
from kvscape.quantization.format import FORMATS, Format
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.source import SourceTensor

F32 = npt.NDArray[np.float32]

TOKENS: list[int] = np.random.default_rng(11).integers(3, 96, 300).tolist()
SIZES = MappingProxyType(
    {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 96,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
)
LOCAL_AND_GLOBAL = (SLIDING, FULL, SLIDING)
SHORT, LONG = (1.0, 1.05, 1.1, 1.2, 1.4, 1.6), (1.1, 1.3, 2.0, 3.5, 5.0, 6.5)


def longrope(original: int, **fields: Any) -> RopeScaling:
    return RopeScaling(
        "longrope", original_max_position_embeddings=original, short_factor=SHORT, long_factor=LONG, **fields
    )


def tiny(model_type: str, **fields: Any) -> ModelConfig:
    return ModelConfig(model_type, **{**SIZES, **fields})


def scaled(scaling: RopeScaling, **fields: Any) -> ModelConfig:
    return tiny("llama", head_dim=64, rope_scaling=scaling, **fields)


ARCHITECTURES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "llama": tiny(
            "llama",
            rope_scaling=RopeScaling("llama3", 8.0, 128, low_freq_factor=1.0, high_freq_factor=4.0),
            tie_word_embeddings=False,
        ),
        "mistral": tiny("mistral", sliding_window=40, head_dim=32, rope_scaling=RopeScaling("linear", 2.0)),
        "qwen2": tiny(
            "qwen2",
            attention_bias=True,
            sliding_window=48,
            layer_types=(FULL, SLIDING),
            rope_scaling=RopeScaling("yarn", 4.0, 128),
        ),
        "qwen3": tiny("qwen3", head_dim=32, rope_theta=1e6, rope_scaling=RopeScaling("yarn", 8.0, 64)),
        "gemma2": tiny(
            "gemma2",
            num_hidden_layers=3,
            hidden_act="gelu_pytorch_tanh",
            query_pre_attn_scalar=24,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=4.0,
            sliding_window=32,
            layer_types=LOCAL_AND_GLOBAL,
            rope_scaling=RopeScaling("linear", 3.0),
        ),
        "gemma3_text": tiny(
            "gemma3_text",
            num_hidden_layers=3,
            num_key_value_heads=1,
            hidden_act="gelu_pytorch_tanh",
            query_pre_attn_scalar=12,
            sliding_window=24,
            layer_types=LOCAL_AND_GLOBAL,
            rope_theta=1e6,
            rope_local_base_freq=1e4,
            rope_scaling=RopeScaling("linear", 8.0),
        ),
        "phi3": tiny(
            "phi3",
            rope_theta=2e4,
            partial_rotary_factor=0.75,
            rope_scaling=longrope(128),
            tie_word_embeddings=False,
        ),
    }
)

_YARN = RopeScaling("yarn", 40.0, 4096, beta_fast=16.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=0.3, truncate=False)
_PARTIAL = {"partial_rotary_factor": 0.1875}
ROPES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "linear": scaled(RopeScaling("linear", 4.0)),
        "llama3": scaled(RopeScaling("llama3", 8.0, 8192), rope_theta=5e5),
        "llama3 of 3.2": scaled(RopeScaling("llama3", 32.0, 8192), rope_theta=5e5),
        "yarn": scaled(RopeScaling("yarn", 4.0, 32768), rope_theta=1e6),
        "yarn with all that it has": scaled(_YARN),
        "yarn with a factor": scaled(RopeScaling("yarn", 8.0, 64, attention_factor=1.3)),
        "longrope": scaled(longrope(4096), max_position_embeddings=131072, **_PARTIAL),
        "longrope with factors": scaled(longrope(64, factor=2.0, attention_factor=1.19), **_PARTIAL),
    }
)


def with_heads(config: ModelConfig, head_dim: int) -> ModelConfig:
    """The model with larger or smaller heads; RoPE's own factors are as many as there are pairs of dimensions."""
    scaling = config.rope_scaling
    if scaling.short_factor:
        pairs = int(head_dim * config.partial_rotary_factor) // 2
        short, long = (tuple(np.linspace(1, end, pairs).tolist()) for end in (SHORT[-1], LONG[-1]))
        scaling = replace(scaling, short_factor=short, long_factor=long)
    return replace(config, head_dim=head_dim, rope_scaling=scaling)


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, F32]:
    """Weights by canonical name; norms are what multiplies, about 1."""
    gain = 8 if find_architecture(config.model_type).feedforward_norms else 1
    return {name: _random(name, shape, seed, gain) for name, shape in canonical_shapes(config).items()}


def _random(name: str, shape: tuple[int, ...], seed: int, gain: float) -> F32:
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape, np.float32)
    if name.endswith("norm"):
        # What is added to large embeddings behind a norm must not be lost beside them.
        return np.float32(gain if ".post_" in name else 1) * (1 + np.float32(0.2) * values)
    # Gains above 1: attention is to prefer some keys, and logits to differ.
    return values if len(shape) == 1 else values * np.float32(2 / shape[1] ** 0.5)


def huggingface_tensors(config: ModelConfig) -> dict[str, F32]:
    """The same weights by Hugging Face's names.

    q, k, v and gate, up are apart unless they are phi3's; gemma's norms are without their 1.
    """
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    rows = {"qkv_proj": [queries, queries + keys], "gate_up_proj": [config.intermediate_size]}
    parts = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    state: dict[str, F32] = {}
    for name, array in random_weights(config).items():
        base = name.removesuffix(".bias")
        *path, last = base.split(".")
        kind = "bias" if base != name else "weight"
        if last in parts and config.model_type != "phi3":
            for part, piece in zip(parts[last], np.split(array, rows[last]), strict=True):
                state[".".join([*path, part, kind])] = piece
        else:
            less = 1 if config.model_type.startswith("gemma") and name.endswith("norm") else 0
            state[f"{base}.{kind}"] = array - np.float32(less)
    return state


@dataclass(frozen=True, eq=False)
class RandomTensor:
    """A ``SourceTensor`` of floats."""

    array: F32

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def format(self) -> Format:
        return FORMATS["f32"]

    @property
    def is_exact(self) -> bool:
        return True

    def kept(self) -> dict[str, Array]:
        return {"weight": self.array}

    def values(self) -> F32:
        return self.array

    def part(self, rows: slice) -> "RandomTensor":
        return RandomTensor(self.array[rows])


@dataclass(frozen=True)
class RandomSource:
    """A ``Source`` of random weights, without a tokenizer."""

    config: ModelConfig
    name: str = "random"
    sha256: str = "0" * 64
    nbytes: int = 0
    tokenizer_json: str = "{}"
    chat_template: str | None = None

    def stream(self) -> Iterator[tuple[str, SourceTensor]]:
        for name, array in random_weights(self.config).items():
            yield name, RandomTensor(array)
