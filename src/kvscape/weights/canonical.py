"""The tensors of a model by MLC-LLM's names: which there are, in the model's order, and their shapes."""

from collections.abc import Mapping

from kvscape.config import ModelConfig
from kvscape.models.registry import find_architecture

# The rows of one tensor that sources may have apart.
Rows = tuple[int, ...]


def canonical_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that the model reads."""
    vocab, hidden = config.vocab_size, config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocab, hidden)}
    for layer in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer(config).items()}
    shapes["model.norm"] = (hidden,)
    return shapes if config.tie_word_embeddings else {**shapes, "lm_head": (vocab, hidden)}


def joined_rows(config: ModelConfig) -> Mapping[str, Rows]:
    """Return how many rows each part has of a tensor that joins several: queries, keys, values; gate, up."""
    queries, keys = _heads(config)
    inner = config.intermediate_size
    return {"self_attn.qkv_proj": (queries, keys, keys), "mlp.gate_up_proj": (inner, inner)}


def _heads(config: ModelConfig) -> tuple[int, int]:
    return config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim


def _layer(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = _heads(config)
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.qkv_proj": (queries + 2 * keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_up_proj": (2 * inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    if config.attention_bias:
        shapes["self_attn.qkv_proj.bias"] = (queries + 2 * keys,)
    architecture = find_architecture(config.model_type)
    if architecture.head_norms:
        shapes |= {"self_attn.q_norm": (config.head_dim,), "self_attn.k_norm": (config.head_dim,)}
    if architecture.feedforward_norms:
        shapes |= {"pre_feedforward_layernorm": (hidden,), "post_feedforward_layernorm": (hidden,)}
    return shapes
