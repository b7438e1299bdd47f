"""GGUF's tensor names and row order to MLC-LLM's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvscape.config import ModelConfig
from kvscape.errors import UnsupportedModelError, WeightsError


@dataclass(frozen=True)
class Part:
    """Rows that one GGUF tensor gives; ``rotary_heads`` > 0: its rows are in GGUF's order within so many heads."""

    name: str
    shape: tuple[int, ...]
    rotary_heads: int = 0


def gguf_parts(config: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Return, for each of MLC's tensors in the model's order, the GGUF tensors whose rows it joins."""
    vocab, hidden = config.vocab_size, config.hidden_size
    parts: dict[str, tuple[Part, ...]] = {"model.embed_tokens": (Part("token_embd.weight", (vocab, hidden)),)}
    for layer in range(config.num_hidden_layers):
        parts |= _layer_parts(config, f"model.layers.{layer}", f"blk.{layer}")
    parts["model.norm"] = (Part("output_norm.weight", (hidden,)),)
    if not config.tie_word_embeddings:
        parts["lm_head"] = (Part("output.weight", (vocab, hidden)),)
    return parts


def _layer_parts(config: ModelConfig, to: str, of: str) -> dict[str, tuple[Part, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    queries, keys = heads * config.head_dim, key_heads * config.head_dim
    return {
        f"{to}.input_layernorm": (Part(f"{of}.attn_norm.weight", (hidden,)),),
        f"{to}.self_attn.qkv_proj": (
            Part(f"{of}.attn_q.weight", (queries, hidden), heads),
            Part(f"{of}.attn_k.weight", (keys, hidden), key_heads),
            Part(f"{of}.attn_v.weight", (keys, hidden)),
        ),
        f"{to}.self_attn.o_proj": (Part(f"{of}.attn_output.weight", (hidden, queries)),),
        f"{to}.post_attention_layernorm": (Part(f"{of}.ffn_norm.weight", (hidden,)),),
        f"{to}.mlp.gate_up_proj": (
            Part(f"{of}.ffn_gate.weight", (inner, hidden)),
            Part(f"{of}.ffn_up.weight", (inner, hidden)),
        ),
        f"{to}.mlp.down_proj": (Part(f"{of}.ffn_down.weight", (hidden, inner)),),
    }


def check_parts(parts: Iterable[Part], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless the file's tensors (``shapes`` by name) are exactly ``parts``: WeightsError lists those that are
    missing, left over or of another shape."""
    if "rope_freqs.weight" in shapes:
        raise UnsupportedModelError(
            "RoPE scaling by a tensor of frequencies (rope_freqs.weight, as Llama 3 has it) is not supported",
            "",
            "use a model without it",
        )
    wanted = {part.name: part.shape for part in parts}
    problems = {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "left over": sorted(shapes.keys() - wanted.keys()),
        "of another shape": [
            f"{name} is {shapes[name]}, not {shape}"
            for name, shape in wanted.items()
            if shapes.get(name, shape) != shape
        ],
    }
    why = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if why:
        raise WeightsError("the file's tensors are not the model's", why, "use another file of this model")
