"""Shapes of known models, for weights that are made up: those that the models were published with."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from kvscape.config import FULL, SLIDING, ModelConfig, RopeScaling


def _shape(
    model_type: str, sizes: tuple[int, int, int, int, int, int, int], theta: float, length: int, **more: Any
) -> ModelConfig:
    """``sizes``: hidden, intermediate, layers, heads, key heads, head_dim, vocabulary."""
    hidden, inner, layers, heads, key_heads, head_dim, vocab = sizes
    fields = {"rms_norm_eps": 1e-5, "tie_word_embeddings": False, **more}
    return ModelConfig(
        model_type,
        hidden,
        inner,
        layers,
        heads,
        key_heads,
        head_dim,
        vocab,
        rope_theta=theta,
        max_position_embeddings=length,
        **fields,
    )


def _llama3(factor: float) -> RopeScaling:
    return RopeScaling("llama3", factor, 8192)


_TIED: dict[str, Any] = {"tie_word_embeddings": True}
_QWEN2: dict[str, Any] = {"rms_norm_eps": 1e-6, "attention_bias": True}
_GEMMA: dict[str, Any] = {
    **_TIED,
    "rms_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256.0,
}
_GEMMA2 = {**_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
_GEMMA3 = {**_GEMMA, "rope_local_base_freq": 1e4, "sliding_window": 512}

SHAPES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "tiny": _shape("llama", (64, 128, 2, 4, 2, 16, 320), 1e4, 4096, **_TIED),
        "smollm2-135m": _shape("llama", (576, 1536, 30, 9, 3, 64, 49152), 1e5, 8192, **_TIED),
        "smollm2-360m": _shape("llama", (960, 2560, 32, 15, 5, 64, 49152), 1e5, 8192, **_TIED),
        "smollm2-1.7b": _shape("llama", (2048, 8192, 24, 32, 32, 64, 49152), 130000.0, 8192, **_TIED),
        "tinyllama-1.1b": _shape("llama", (2048, 5632, 22, 32, 4, 64, 32000), 1e4, 2048),
        "llama-2-7b": _shape("llama", (4096, 11008, 32, 32, 32, 128, 32000), 1e4, 4096),
        "llama-3-8b": _shape("llama", (4096, 14336, 32, 32, 8, 128, 128256), 5e5, 8192),
        "llama-3.1-8b": _shape("llama", (4096, 14336, 32, 32, 8, 128, 128256), 5e5, 131072, rope_scaling=_llama3(8.0)),
        "llama-3.2-1b": _shape(
            "llama", (2048, 8192, 16, 32, 8, 64, 128256), 5e5, 131072, **_TIED, rope_scaling=_llama3(32.0)
        ),
        "llama-3.2-3b": _shape(
            "llama", (3072, 8192, 28, 24, 8, 128, 128256), 5e5, 131072, **_TIED, rope_scaling=_llama3(32.0)
        ),
        "mistral-7b": _shape("mistral", (4096, 14336, 32, 32, 8, 128, 32768), 1e6, 32768),
        "qwen2.5-0.5b": _shape("qwen2", (896, 4864, 24, 14, 2, 64, 151936), 1e6, 32768, **_TIED, **_QWEN2),
        "qwen2.5-1.5b": _shape("qwen2", (1536, 8960, 28, 12, 2, 128, 151936), 1e6, 32768, **_TIED, **_QWEN2),
        "qwen2.5-7b": _shape("qwen2", (3584, 18944, 28, 28, 4, 128, 152064), 1e6, 32768, **_QWEN2),
        "qwen3-0.6b": _shape("qwen3", (1024, 3072, 28, 16, 8, 128, 151936), 1e6, 40960, **_TIED, rms_norm_eps=1e-6),
        "gemma-2-2b": _shape(
            "gemma2", (2304, 9216, 26, 8, 4, 256, 256000), 1e4, 8192, **_GEMMA2, layer_types=(SLIDING, FULL) * 13
        ),
        "gemma-3-1b": _shape(
            "gemma3_text",
            (1152, 6912, 26, 4, 1, 256, 262144),
            1e6,
            32768,
            **_GEMMA3,
            layer_types=((SLIDING,) * 5 + (FULL,)) * 4 + (SLIDING,) * 2,
        ),
        "phi-3-mini-4k": _shape("phi3", (3072, 8192, 32, 32, 32, 96, 32064), 1e4, 4096, sliding_window=2047),
    }
)


def with_layers(shape: ModelConfig, layers: int) -> ModelConfig:
    """Return the first ``layers`` of a shape."""
    return replace(shape, num_hidden_layers=layers, layer_types=shape.layer_types[:layers])
