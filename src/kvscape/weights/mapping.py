"""GGUF's tensor names and row order to MLC-LLM's.

Source: ``MODEL_TENSORS`` and ``TENSOR_NAMES`` of the gguf package.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvscape.config import ModelConfig
from kvscape.errors import WeightsError

# Not weights: they are read with the model's shape.
FREQUENCIES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

Parts = dict[str, tuple["Part", ...]]


@dataclass(frozen=True)
class Part:
    """Rows that one GGUF tensor gives; ``rotary_heads`` > 0: its rows are in GGUF's order within so many heads."""

    name: str
    shape: tuple[int, ...]
    rotary_heads: int = 0


def gguf_parts(config: ModelConfig) -> Parts:
    """Return, for each of MLC's tensors in the model's order, the GGUF tensors whose rows it joins."""
    vocab, hidden = config.vocab_size, config.hidden_size
    parts: Parts = {"model.embed_tokens": (Part("token_embd.weight", (vocab, hidden)),)}
    for layer in range(config.num_hidden_layers):
        of = f"blk.{layer}"
        found = _attention(config, of) | _norms(config, of) | _feed_forward(config, of)
        parts |= {f"model.layers.{layer}.{name}": found[name] for name in sorted(found, key=_ORDER.index)}
    parts["model.norm"] = (Part("output_norm.weight", (hidden,)),)
    if not config.tie_word_embeddings:
        parts["lm_head"] = (Part("output.weight", (vocab, hidden)),)
    return parts


_ORDER = (
    "input_layernorm",
    "self_attn.qkv_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_up_proj",
    "mlp.down_proj",
    "self_attn.qkv_proj.bias",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def _attention(config: ModelConfig, of: str) -> Parts:
    hidden, heads, key_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    queries, keys = heads * config.head_dim, key_heads * config.head_dim
    # The converter reorders rows of the architecture that it calls llama, Mistral's among them.
    reordered = (heads, key_heads, 0) if config.model_type in ("llama", "mistral") else (0, 0, 0)
    of_parts = tuple(zip("qkv", (queries, keys, keys), reordered, strict=True))
    parts: Parts = {"self_attn.o_proj": (Part(f"{of}.attn_output.weight", (hidden, queries)),)}
    if config.model_type == "phi3":
        parts["self_attn.qkv_proj"] = (Part(f"{of}.attn_qkv.weight", (queries + 2 * keys, hidden)),)
    else:
        parts["self_attn.qkv_proj"] = tuple(Part(f"{of}.attn_{n}.weight", (rows, hidden), r) for n, rows, r in of_parts)
    if config.attention_bias:
        parts["self_attn.qkv_proj.bias"] = tuple(Part(f"{of}.attn_{n}.bias", (rows,), r) for n, rows, r in of_parts)
    return parts


def _norms(config: ModelConfig, of: str) -> Parts:
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    if config.model_type in ("gemma2", "gemma3_text"):
        names["post_attention_layernorm"] = "post_attention_norm"
        names |= {"pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
    parts: Parts = {to: (Part(f"{of}.{name}.weight", (config.hidden_size,)),) for to, name in names.items()}
    if config.model_type in ("qwen3", "gemma3_text"):
        of_head = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
        parts |= {to: (Part(f"{of}.{name}.weight", (config.head_dim,)),) for to, name in of_head.items()}
    return parts


def _feed_forward(config: ModelConfig, of: str) -> Parts:
    hidden, inner = config.hidden_size, config.intermediate_size
    if config.model_type == "phi3":
        gate_up: tuple[Part, ...] = (Part(f"{of}.ffn_up.weight", (2 * inner, hidden)),)
    else:
        gate_up = tuple(Part(f"{of}.ffn_{name}.weight", (inner, hidden)) for name in ("gate", "up"))
    return {"mlp.gate_up_proj": gate_up, "mlp.down_proj": (Part(f"{of}.ffn_down.weight", (hidden, inner)),)}


def check_parts(parts: Iterable[Part], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless the file's tensors (``shapes`` by name) are exactly ``parts``: WeightsError lists those that are
    missing, left over or of another shape."""
    wanted = {part.name: part.shape for part in parts}
    problems = {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "left over": sorted(shapes.keys() - wanted.keys() - set(FREQUENCIES)),
        "of another shape": [
            f"{name} is {shapes[name]}, not {shape}"
            for name, shape in wanted.items()
            if shapes.get(name, shape) != shape
        ],
    }
    why = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
    if why:
        raise WeightsError("the file's tensors are not the model's", why, "use another file of this model")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
