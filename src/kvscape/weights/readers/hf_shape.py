"""A model's shape from a Hugging Face ``config.json``.

Source: transformers' ``configuration_*.py`` of each model type; what a file leaves out has the default it has there.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kvscape.config import ModelConfig
from kvscape.config.model import FULL, SLIDING
from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.models.registry import find_architecture
from kvscape.weights.readers.fields import Fields
from kvscape.weights.readers.hf_rope import read_rope

_GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": 256, "num_key_value_heads": 4}
_GEMMA |= {"query_pre_attn_scalar": 256, "sliding_window": 4096, "tie_word_embeddings": True}
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama": {"max_position_embeddings": 2048},
        "mistral": {"max_position_embeddings": 131_072, "sliding_window": 4096, "num_key_value_heads": 8},
        "qwen2": {"max_position_embeddings": 32_768, "sliding_window": 4096, "attention_bias": True},
        "qwen3": {"max_position_embeddings": 32_768, "sliding_window": 4096, "head_dim": 128},
        "gemma2": {
            **_GEMMA,
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        "gemma3_text": {
            **_GEMMA,
            "vocab_size": 262_208,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "max_position_embeddings": 131_072,
        },
        "phi3": {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    }
)
# Other model types do not read these keys, whatever their files say.
_CAPPED = ("gemma2", "gemma3_text")
_MOST_LAYERS = 10_000


def model_config(
    config: Mapping[str, Any], where: str, bos_token_id: int | None = None, eos_token_ids: Iterable[int] = ()
) -> ModelConfig:
    """Return the shape; ``bos_token_id`` and ``eos_token_ids`` are what tokenizer and generation say.

    Of ``gemma3`` it is the shape of the text model. Raises UnsupportedModelError for a model type that no reader knows,
    WeightsError for a key that is missing or of the wrong kind.
    """
    fields, model_type = _text_fields(config, where)
    _refuse_variants(fields)
    heads, hidden_size = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    rope, windows = read_rope(fields, model_type), _layer_types(fields, model_type)
    shape = ModelConfig(
        model_type=model_type,
        hidden_size=hidden_size,
        intermediate_size=fields.whole("intermediate_size"),
        num_hidden_layers=fields.whole("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=fields.whole("num_key_value_heads", heads),
        head_dim=fields.whole("head_dim", hidden_size // heads or 1),
        vocab_size=fields.whole("vocab_size"),
        rms_norm_eps=fields.real("rms_norm_eps", 1e-6),
        rope_theta=rope.theta,
        max_position_embeddings=fields.whole("max_position_embeddings"),
        tie_word_embeddings=fields.flag("tie_word_embeddings", False),
        bos_token_id=bos_token_id,
        eos_token_ids=tuple(eos_token_ids),
        rope_scaling=rope.scaling,
        rope_local_base_freq=rope.local_theta,
        partial_rotary_factor=rope.partial_rotary_factor,
        hidden_act=_activation(fields, model_type),
        attention_bias=fields.flag("attention_bias", False),
        query_pre_attn_scalar=fields.optional_real("query_pre_attn_scalar") if model_type in _CAPPED else None,
        attn_logit_softcapping=fields.optional_real("attn_logit_softcapping") if model_type in _CAPPED else None,
        final_logit_softcapping=fields.optional_real("final_logit_softcapping") if model_type in _CAPPED else None,
        sliding_window=fields.whole("sliding_window") if SLIDING in windows else None,
        layer_types=windows if len(set(windows)) > 1 else (),
    )
    _check(shape, fields)
    return shape


def _text_fields(config: Mapping[str, Any], where: str) -> tuple[Fields, str]:
    """The fields of the text model and its type."""
    outer = Fields(config, where)
    model_type = outer.word("model_type")
    inner = outer.inner("text_config") if model_type == "gemma3" else None
    if inner is not None:
        return Fields(inner.values, inner.where, DEFAULTS["gemma3_text"]), "gemma3_text"
    find_architecture(model_type)
    return Fields(config, where, DEFAULTS.get(model_type, {})), model_type


def _refuse_variants(fields: Fields) -> None:
    for name in ("mlp_bias", "use_bidirectional_attention"):
        if fields.find(name) not in (None, False):
            raise UnsupportedModelError(f"{fields.where}: {name} is not supported", "", "use another model")
    if fields.find("quantization_config") is not None:
        raise UnsupportedModelError(
            f"{fields.where}: quantized weights (quantization_config) are not supported",
            "safetensors are read as floats",
            "use the original model, its GGUF file or its MLC folder",
        )


def _activation(fields: Fields, model_type: str) -> str:
    if model_type.startswith("gemma"):
        return fields.word("hidden_activation", str(_GEMMA["hidden_activation"]))
    return fields.word("hidden_act", "silu")


def _layer_types(fields: Fields, model_type: str) -> tuple[str, ...]:
    """FULL or SLIDING for each layer."""
    layers = fields.whole("num_hidden_layers")
    if layers > _MOST_LAYERS:
        raise fields.wrong("num_hidden_layers", f"is {layers}")
    if model_type.startswith("qwen") and not fields.flag("use_sliding_window", False):
        return (FULL,) * layers
    if model_type == "llama" or fields.find("sliding_window") is None:
        return (FULL,) * layers
    if model_type not in ("mistral", "phi3") and fields.find("layer_types") is not None:
        return _given_types(fields)
    match model_type:
        case "qwen2" | "qwen3":
            first = fields.whole("max_window_layers", 28) if fields.find("max_window_layers") != 0 else 0
            return tuple(SLIDING if layer >= first else FULL for layer in range(layers))
        case "gemma2" | "gemma3_text":
            pattern = 2 if model_type == "gemma2" else fields.whole("sliding_window_pattern", 6)
            return tuple(SLIDING if (layer + 1) % pattern else FULL for layer in range(layers))
    return (SLIDING,) * layers


def _given_types(fields: Fields) -> tuple[str, ...]:
    given = fields.words("layer_types")
    if len(given) != fields.whole("num_hidden_layers") or not set(given) <= {FULL, SLIDING}:
        raise fields.wrong("layer_types", f"does not say {FULL} or {SLIDING} for each layer")
    return given


def _check(shape: ModelConfig, fields: Fields) -> None:
    if shape.num_attention_heads % shape.num_key_value_heads:
        raise fields.wrong("num_key_value_heads", "does not divide num_attention_heads")
    if shape.head_dim % 2:
        raise fields.wrong("head_dim", f"is {shape.head_dim}, not even")
    rotated = int(shape.head_dim * shape.partial_rotary_factor)
    for name in ("short_factor", "long_factor"):
        factors = getattr(shape.rope_scaling, name)
        if factors and len(factors) != rotated // 2:
            raise fields.wrong(f"rope_scaling: {name}", f"has {len(factors)} factors, not {rotated // 2}")
    for token in (shape.bos_token_id, *shape.eos_token_ids):
        if token is not None and not 0 <= token < shape.vocab_size:
            raise WeightsError(f"{fields.where}: token {token}", f"is none of {shape.vocab_size}", "use another copy")
