"""The tiny architectures in Hugging Face transformers, with the same weights. Needs the ``reference`` extra."""

from typing import Any

import torch
import transformers

from architectures import huggingface_tensors
from kvscape.config import FULL, SLIDING, ModelConfig, RopeScaling
from kvscape.models.registry import MODELS

_SAME = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
    "sliding_window",
)
_GEMMA = ("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")


def reference_model(config: ModelConfig) -> Any:
    """Return the model in f32, with the random weights of its config."""
    name = MODELS[config.model_type].name
    model = getattr(transformers, name)(reference_config(config)).to(torch.float32)
    state = {key: torch.from_numpy(array.copy()) for key, array in huggingface_tensors(config).items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model.eval()


def reference_config(config: ModelConfig) -> Any:
    fields = {name: getattr(config, name) for name in _SAME}
    if config.model_type.startswith("gemma"):
        fields |= {name: getattr(config, name) for name in _GEMMA} | {"hidden_activation": config.hidden_act}
    if config.model_type.startswith("qwen"):
        fields["use_sliding_window"] = config.sliding_window is not None
    if config.model_type == "phi3":  # whose own field goes before that of its rope_parameters
        fields["original_max_position_embeddings"] = config.rope_scaling.original_max_position_embeddings
    if config.layer_types:
        fields["layer_types"] = list(config.layer_types)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    kind: Any = getattr(transformers, MODELS[config.model_type].name).config_class
    return kind(**fields, **ids, rope_parameters=_rope(config), attn_implementation="eager")


def rope_parameters(config: ModelConfig) -> dict[str, Any]:
    """The parameters of the config's ``rope_type``, as transformers names them."""
    scaling, plain = config.rope_scaling, RopeScaling()
    given = {name: value for name, value in vars(scaling).items() if value != getattr(plain, name)}
    if scaling.rope_type == "llama3":
        given |= {name: getattr(scaling, name) for name in ("low_freq_factor", "high_freq_factor")}
    lists = {name: list(value) for name, value in given.items() if isinstance(value, tuple)}
    partial = {} if config.partial_rotary_factor == 1 else {"partial_rotary_factor": config.partial_rotary_factor}
    return {"rope_theta": config.rope_theta, "rope_type": scaling.rope_type, **partial, **given, **lists}


def _rope(config: ModelConfig) -> dict[str, Any]:
    if config.model_type != "gemma3_text":
        return rope_parameters(config)
    local = {"rope_type": "default", "rope_theta": config.rope_local_base_freq}
    return {FULL: rope_parameters(config), SLIDING: local}
