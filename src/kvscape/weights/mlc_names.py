"""How MLC-LLM's model classes call a tensor, where that is not the canonical name.

Sources: MLC-LLM's ``qwen2_model.py``, ``qwen3_model.py``, ``gemma3_model.py`` and ``phi3_model.py``.
"""

from kvscape.config import ModelConfig
from kvscape.weights.canonical import joined_rows

_PHI3 = {
    "model.embed_tokens": "transformer.embd",
    "model.norm": "transformer.norm",
    "input_layernorm": "ln",
    "self_attn.qkv_proj": "mixer.qkv_proj",
    "self_attn.o_proj": "mixer.out_proj",
}
_QWEN = {"self_attn.qkv_proj": "self_attn.c_attn", "self_attn.qkv_proj.bias": "self_attn.c_attn.bias"}


def mlc_parts(config: ModelConfig, name: str, rows: int) -> list[tuple[str, int]]:
    """Return what MLC calls a canonical tensor of ``rows`` rows: the tensors that it joins, with the rows of each.

    Gemma 3 has queries, keys and values apart. The names are without ``.q_weight`` and the like.
    """
    model_type = config.model_type
    if model_type == "gemma3_text":
        if name.endswith("self_attn.qkv_proj"):
            scope = f"language_model.{name.removesuffix('qkv_proj')}"
            return [
                (f"{scope}{part}_proj", count)
                for part, count in zip("qkv", joined_rows(config)["self_attn.qkv_proj"], strict=True)
            ]
        return [(f"language_model.{name}", rows)]
    renamed = {"phi3": _PHI3, "qwen2": _QWEN, "qwen3": _QWEN}.get(model_type, {})
    return [(_renamed(name, renamed, "transformer.h" if model_type == "phi3" else "model.layers"), rows)]


def _renamed(name: str, renamed: dict[str, str], layers: str) -> str:
    if not name.startswith("model.layers."):
        return renamed.get(name, name)
    _, _, layer, inner = name.split(".", 3)
    return f"{layers}.{layer}.{renamed.get(inner, inner)}"
