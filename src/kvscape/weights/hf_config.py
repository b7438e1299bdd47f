"""The artefact's ``config.json``, in Hugging Face's words."""

from dataclasses import asdict, fields
from typing import Any

from kvscape.config import FULL, SLIDING, ModelConfig, RopeScaling
from kvscape.models.registry import find_architecture

# These have another name, another form, or a word that says the same.
_OWN = (
    "eos_token_ids",
    "rope_theta",
    "rope_scaling",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
)


def hf_config(model: ModelConfig) -> dict[str, Any]:
    """Return what transformers would read of this model; the readers here give the same shape back."""
    shown = {name: value for name, value in model.to_json().items() if name not in _OWN}
    ends = list(model.eos_token_ids)
    return {
        "architectures": [find_architecture(model.model_type).name],
        **{name: list(value) if isinstance(value, tuple) else value for name, value in shown.items() if value != ()},
        **_window(model),
        **_rope(model),
        **(_gemma(model) if model.model_type.startswith("gemma") else {}),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
    }


def _window(model: ModelConfig) -> dict[str, Any]:
    """Qwen's windows are off unless they are turned on; layers that are all alike are told apart from the default."""
    kinds = list(model.layer_types) or [SLIDING if model.sliding_window else FULL] * model.num_hidden_layers
    named = {} if model.model_type in ("llama", "mistral", "phi3") else {"layer_types": kinds}
    return {**named, "use_sliding_window": True} if model.sliding_window and "qwen" in model.model_type else named


def _gemma(model: ModelConfig) -> dict[str, Any]:
    scalar = model.query_pre_attn_scalar or model.head_dim
    whole = int(scalar) if scalar == int(scalar) else scalar  # transformers takes no float for it
    return {"hidden_activation": model.hidden_act, "query_pre_attn_scalar": whole}


def _rope(model: ModelConfig) -> dict[str, Any]:
    """The words of transformers 4, which 5 reads too."""
    scaling = _scaling(model.rope_scaling)
    partial = {"partial_rotary_factor": model.partial_rotary_factor} if model.partial_rotary_factor != 1 else {}
    local = model.rope_local_base_freq
    original = model.rope_scaling.original_max_position_embeddings if model.model_type == "phi3" else None
    return {
        "rope_theta": model.rope_theta,
        "rope_scaling": scaling,
        **partial,
        **({"rope_local_base_freq": local} if local is not None else {}),
        **({"original_max_position_embeddings": original} if original is not None else {}),
    }


def _scaling(scaling: RopeScaling) -> dict[str, Any] | None:
    if scaling == RopeScaling():
        return None
    default = {field.name: field.default for field in fields(RopeScaling)}
    needed = {"longrope": (), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    kept = ("rope_type", *needed.get(scaling.rope_type, ("factor",)))
    values = {n: v for n, v in asdict(scaling).items() if n in kept or v != default[n]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
