"""Which module builds which ``model_type``, and what of a model's config each implements.

TVM is imported when one is built, not before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

from kvscape.config import FULL, ROPE_TYPES, SLIDING, ModelConfig
from kvscape.errors import UnsupportedModelError

# What an architecture runs with where it says nothing else.
_PLAIN: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "partial_rotary_factor": (1.0,),
        "query_pre_attn_scalar": (None,),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "sliding_window": (None,),
        "rope_local_base_freq": (None,),
    }
)
_ANY: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """The class in ``kvscape.models.<model_type>``, made from (ModelConfig, Weights, KVPrecision).

    ``runs`` has the values that a config's field may have, where they are not the plain ones; () means any. The others
    say how its files differ from Llama's: norms of each head; norms before and behind the MLP; what the weights of its
    norms lack in Hugging Face's files; whether these have queries, keys and values, and gate and up, joined.
    """

    name: str
    known_as: str
    runs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    rope_types: tuple[str, ...] = ROPE_TYPES
    head_norms: bool = False
    feedforward_norms: bool = False
    norm_offset: float = 0.0
    joined: bool = False

    def values(self, name: str) -> tuple[Any, ...]:
        """What a config's field may be; () means anything."""
        return self.runs.get(name, _PLAIN[name])

    def limits(self) -> dict[str, Any]:
        """What is known of it and what it runs with, for a person and as JSON; () means anything."""
        return {"known_as": self.known_as, "runs": dict(self.runs), "rope_types": self.rope_types}


_WINDOW = {"sliding_window": _ANY}
_GEMMA = {
    **_WINDOW,
    "hidden_act": ("gelu_pytorch_tanh",),
    "query_pre_attn_scalar": _ANY,
    "final_logit_softcapping": _ANY,
}

MODELS: Mapping[str, Architecture] = MappingProxyType(
    {
        "gemma2": Architecture(
            "Gemma2ForCausalLM",
            "Gemma 2",
            {**_GEMMA, "attn_logit_softcapping": _ANY},
            feedforward_norms=True,
            norm_offset=1.0,
        ),
        "gemma3_text": Architecture(
            "Gemma3ForCausalLM",
            "Gemma 3, its text models",
            {**_GEMMA, "rope_local_base_freq": _ANY},
            head_norms=True,
            feedforward_norms=True,
            norm_offset=1.0,
        ),
        "llama": Architecture("LlamaForCausalLM", "Llama 2 to 3.2, SmolLM2, TinyLlama"),
        "mistral": Architecture("MistralForCausalLM", "Mistral 7B", _WINDOW),
        "phi3": Architecture(
            "Phi3ForCausalLM",
            "Phi-3, Phi-4, Phi-4-mini",
            {**_WINDOW, "partial_rotary_factor": _ANY},
            rope_types=("default", "longrope"),
            joined=True,
        ),
        "qwen2": Architecture("Qwen2ForCausalLM", "Qwen2, Qwen2.5", {**_WINDOW, "attention_bias": (True,)}),
        "qwen3": Architecture("Qwen3ForCausalLM", "Qwen3, its dense models", _WINDOW, head_norms=True),
    }
)


def find_model(model_type: str) -> Callable[..., Any]:
    """Return the class of a model type; raise UnsupportedModelError naming the supported ones."""
    name = find_architecture(model_type).name
    model: Callable[..., Any] = getattr(import_module(f"kvscape.models.{model_type}"), name)
    return model


def find_architecture(model_type: str) -> Architecture:
    """Return what is known of a model type; raise UnsupportedModelError naming the supported ones."""
    if model_type not in MODELS:
        raise UnsupportedModelError(
            f"architecture {model_type!r} is not supported", "", f"supported are {', '.join(sorted(MODELS))}"
        )
    return MODELS[model_type]


def check_model(config: ModelConfig) -> None:
    """Raise UnsupportedModelError for a model that would not run as it is meant: to be asked before reading weights."""
    architecture = find_architecture(config.model_type)
    for name in _PLAIN:
        values = architecture.values(name)
        if values and getattr(config, name) not in values:
            raise _unsupported(config, name, getattr(config, name), " or ".join(map(str, values)))
    _check_layer_types(config)
    _check_rope(config, architecture)


def _check_layer_types(config: ModelConfig) -> None:
    known = (FULL, SLIDING) if config.sliding_window else (FULL,)
    for kind in config.layer_types:
        if kind not in known:
            raise _unsupported(config, "layer_types", kind, " or ".join(known))
    if len(config.layer_types) not in (0, config.num_hidden_layers):
        raise _unsupported(
            config, "layer_types", len(config.layer_types), f"one for each of {config.num_hidden_layers}"
        )


def _check_rope(config: ModelConfig, architecture: Architecture) -> None:
    scaling, pairs = config.rope_scaling, int(config.head_dim * config.partial_rotary_factor) / 2
    if scaling.rope_type not in architecture.rope_types:
        raise _unsupported(config, "RoPE scaling", scaling.rope_type, ", ".join(architecture.rope_types))
    if pairs != int(pairs) or pairs < 1:
        raise _unsupported(config, "partial_rotary_factor", config.partial_rotary_factor, "whole pairs of dimensions")
    for name, needed in (("short_factor", pairs), ("long_factor", pairs)) if scaling.rope_type == "longrope" else ():
        if len(getattr(scaling, name)) != needed:
            raise _unsupported(config, name, f"{len(getattr(scaling, name))} numbers", f"{int(needed)}")


def _unsupported(config: ModelConfig, name: str, value: Any, runs: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{config.model_type} with {name} = {value} is not supported", f"{config.model_type} runs with {runs}", _DO
    )


_DO = "use another model"
