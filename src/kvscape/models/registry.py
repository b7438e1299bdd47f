"""Which module builds which ``model_type``."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kvscape.config import KVPrecision, ModelConfig
from kvscape.errors import UnsupportedModelError
from kvscape.models.layers import Weights
from kvscape.models.llama import LlamaForCausalLM

MODELS: Mapping[str, Callable[[ModelConfig, Weights, KVPrecision], LlamaForCausalLM]] = MappingProxyType(
    {"llama": LlamaForCausalLM}
)


def find_model(model_type: str) -> Callable[[ModelConfig, Weights, KVPrecision], LlamaForCausalLM]:
    """Return the module of a model type; raise UnsupportedModelError naming the supported ones."""
    if model_type not in MODELS:
        raise UnsupportedModelError(
            f"architecture {model_type!r} is not supported", "", f"supported are {', '.join(sorted(MODELS))}"
        )
    return MODELS[model_type]
