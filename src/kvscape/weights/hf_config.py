"""The artefact's ``config.json``, in Hugging Face's words."""

from typing import Any

from kvscape.config import ModelConfig

_ARCHITECTURES = {"llama": "LlamaForCausalLM"}


def hf_config(model: ModelConfig) -> dict[str, Any]:
    """Return what transformers would read of this model."""
    fields = model.to_json()
    ends = list(fields.pop("eos_token_ids"))
    return {
        "architectures": [_ARCHITECTURES[model.model_type]],
        **fields,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "hidden_act": "silu",
    }
