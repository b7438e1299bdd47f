"""Llama (Touvron et al. 2023): grouped-query attention, rotary positions, RMSNorm, SwiGLU; also SmolLM2."""

from typing import Any

import numpy as np
from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, ModelConfig
from kvscape.models.attention import AttentionShape, attend
from kvscape.models.layers import Embedding, Linear, RMSNorm, Weights
from kvscape.models.ops import Tensor, call, placeholder
from kvscape.models.step import Cache, Step


class LlamaAttention(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ModelConfig, weights: Weights, name: str, precision: KVPrecision) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        heads = config.num_attention_heads + 2 * config.num_key_value_heads
        self.qkv_proj = Linear(weights, f"{name}.qkv_proj", heads * config.head_dim, config.hidden_size)
        self.o_proj = Linear(weights, f"{name}.o_proj", config.hidden_size, self.q_size)

    @property
    def q_size(self) -> int:
        return self.config.num_attention_heads * self.config.head_dim

    def forward(self, x: Tensor, rope: Tensor, sink_rope: Tensor, step: Step, cache: Cache, layer: int) -> Tensor:
        c = self.config
        shape = AttentionShape(self.precision, c.num_attention_heads, c.num_key_value_heads, c.head_dim)
        return self.o_proj(attend(shape, self.qkv_proj(x), rope, sink_rope, step, cache, layer))


class LlamaMLP(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ModelConfig, weights: Weights, name: str) -> None:
        super().__init__()
        self.size = config.intermediate_size
        self.gate_up_proj = Linear(weights, f"{name}.gate_up_proj", 2 * self.size, config.hidden_size)
        self.down_proj = Linear(weights, f"{name}.down_proj", config.hidden_size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(call("swiglu", [self.gate_up_proj(x)], placeholder([x.shape[0], self.size])))


class LlamaDecoderLayer(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ModelConfig, weights: Weights, name: str, precision: KVPrecision) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, weights, f"{name}.self_attn", precision)
        self.mlp = LlamaMLP(config, weights, f"{name}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LlamaModel(nn.Module):  # type: ignore[misc]
    def __init__(self, config: ModelConfig, weights: Weights, precision: KVPrecision) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(weights, "model.embed_tokens", config.vocab_size, config.hidden_size)
        names = [f"model.layers.{i}" for i in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList([LlamaDecoderLayer(config, weights, name, precision) for name in names])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, step: Step) -> Tensor:
        """Return the normalized hidden states of the rows whose logits are wanted."""
        place = {
            layer: (g, i) for g, group in enumerate(self.config.layer_groups) for i, layer in enumerate(group.layers)
        }
        rope = self._rope(step.positions)
        sink_ropes = [self._rope(cache.sink_positions) for cache in step.caches]
        residual = self.embed_tokens(step.token_ids)
        delta = None
        for index, layer in enumerate(self.layers):
            if delta is None:
                x = layer.input_layernorm(residual)
            else:
                x, residual = layer.input_layernorm.add(delta, residual)
            group, position = place[index]
            delta = layer.self_attn(x, rope, sink_ropes[group], step, step.caches[group], position)
            x, residual = layer.post_attention_layernorm.add(delta, residual)
            delta = layer.mlp(x)
        normed, _ = self.norm.add(_rows(delta, step), _rows(residual, step))
        return normed

    def _rope(self, positions: Tensor) -> Tensor:
        D = self.config.head_dim
        frequency = self.config.rope_theta ** (-np.arange(0, D, 2, dtype=np.float64) / D)
        constant = nn.Tensor.from_const(frequency.astype(np.float32))
        return call("rope_table", [positions, constant], placeholder([positions.shape[0], D]))


class LlamaForCausalLM(nn.Module):  # type: ignore[misc]
    """``forward`` gives the wanted rows' logits and the changed pools and tails."""

    def __init__(self, config: ModelConfig, weights: Weights, precision: KVPrecision) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaModel(config, weights, precision)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(weights, "lm_head", config.vocab_size, config.hidden_size)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        sequences: Tensor,
        tiles: Tensor,
        pieces: Tensor,
        logit_rows: Tensor,
        slots: Any,
        page_tables: Any,
        windows: Any,
        sink_positions: Any,
        pools: Any,
        tails: Any,
    ) -> Any:
        caches = list(map(Cache, pools, tails, slots, page_tables, windows, sink_positions))
        hidden = self.model(Step(token_ids, positions, sequences, tiles, pieces, logit_rows, caches))
        head = self.model.embed_tokens.logits if self.config.tie_word_embeddings else self.lm_head
        return head(hidden), tuple(cache.pool for cache in caches), tuple(cache.tails for cache in caches)


def _rows(x: Tensor, step: Step) -> Tensor:
    return call("take_rows", [x, step.logit_rows], placeholder([step.logit_rows.shape[0], x.shape[1]]))
