"""Which module builds which ``model_type``. TVM is imported when one is built, not before."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from kvscape.config import UNSCALED, ModelConfig
from kvscape.errors import UnsupportedModelError

# Module and class of each; a class takes (ModelConfig, Weights, KVPrecision).
MODELS: Mapping[str, tuple[str, str]] = MappingProxyType({"llama": ("kvscape.models.llama", "LlamaForCausalLM")})


def find_model(model_type: str) -> Callable[..., Any]:
    """Return the class of a model type; raise UnsupportedModelError naming the supported ones."""
    module, name = _place(model_type)
    model: Callable[..., Any] = getattr(import_module(module), name)
    return model


def _place(model_type: str) -> tuple[str, str]:
    if model_type not in MODELS:
        raise UnsupportedModelError(
            f"architecture {model_type!r} is not supported", "", f"supported are {', '.join(sorted(MODELS))}"
        )
    return MODELS[model_type]


def check_model(config: ModelConfig) -> None:
    """Raise UnsupportedModelError for a model that would not run as it is meant; ask before weights are read."""
    _place(config.model_type)
    own = {
        "rope_scaling": UNSCALED,
        "partial_rotary_factor": 1.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "query_pre_attn_scalar": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }
    for field, implemented in own.items():
        if getattr(config, field) != implemented:
            raise UnsupportedModelError(
                f"{config.model_type} with {field} = {getattr(config, field)} is not supported", "", "use another model"
            )
