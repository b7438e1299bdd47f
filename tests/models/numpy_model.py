"""Any architecture in plain numpy, in f64, from the canonical weights of an artefact: no pages, no kernels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy_llama import Array, NumpyLlama

from kvscape.artifact import Artifact
from kvscape.config import EngineConfig, LayerGroup
from kvscape.models.rope import rotary
from kvscape.quantization.kv import round_keys, round_values


class NumpyModel(NumpyLlama):
    """Llama, and what others have beside it; ``seen`` is the number of tokens that a query may see at most."""

    seen = 1 << 30

    def logits(self, token_ids: Sequence[int]) -> Array:
        c = self.config
        gemma = c.model_type.startswith("gemma")
        x = self.weights["model.embed_tokens"][np.asarray(token_ids)] * (np.sqrt(c.hidden_size) if gemma else 1)
        groups = {layer: group for group in c.layer_groups for layer in group.layers}
        for layer in range(c.num_hidden_layers):
            name = f"model.layers.{layer}"
            attended = self._grouped(self._norm(x, f"{name}.input_layernorm"), f"{name}.self_attn", groups[layer])
            if f"{name}.pre_feedforward_layernorm" in self.weights:
                x = x + self._norm(attended, f"{name}.post_attention_layernorm")
                inner = self._mlp(self._norm(x, f"{name}.pre_feedforward_layernorm"), f"{name}.mlp")
                x = x + self._norm(inner, f"{name}.post_feedforward_layernorm")
            else:
                x = x + attended
                x = x + self._mlp(self._norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp")
        logits = self._linear(self._norm(x, "model.norm"), "model.embed_tokens" if c.tie_word_embeddings else "lm_head")
        return _capped(logits, c.final_logit_softcapping)

    def _mlp(self, x: Array, name: str) -> Array:
        gate, up = np.split(self._linear(x, f"{name}.gate_up_proj"), 2, axis=-1)
        if self.config.hidden_act == "silu":
            gate = gate / (1 + np.exp(-gate))
        else:
            gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        return self._linear(gate * up, f"{name}.down_proj")

    def _grouped(self, x: Array, name: str, group: LayerGroup) -> Array:
        c, n = self.config, len(x)
        qkv = self._linear(x, f"{name}.qkv_proj") + self.weights.get(f"{name}.qkv_proj.bias", 0)
        sizes = [c.num_attention_heads, c.num_attention_heads + c.num_key_value_heads]
        queries, keys, values = np.split(qkv.reshape(n, -1, c.head_dim), sizes, axis=1)
        if f"{name}.q_norm" in self.weights:
            queries, keys = self._norm(queries, f"{name}.q_norm"), self._norm(keys, f"{name}.k_norm")
        return self._linear(self._attended(queries, keys, values, group).reshape(n, -1), f"{name}.o_proj")

    def _attended(self, queries: Array, keys: Array, values: Array, group: LayerGroup) -> Array:
        """[n, q_heads, dim] of queries, keys and values that are not rotated yet."""
        n = len(queries)
        rounded = round_keys(_f32(self._turned(keys, group)), self.kv.key)
        scores = self._products(self._turned(queries, group), rounded)
        distance = np.arange(n)[:, None] - np.arange(n)
        window = group.sliding_window_size if group.sliding_window_size != -1 else n
        scores[:, (distance < 0) | (distance >= window)] = -np.inf
        return self._weighed(scores, round_values(_f32(values), self.kv.value))

    def _weighed(self, scores: Array, values: Array) -> Array:
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen: Array = np.einsum("hqk,khd->qhd", weights, np.repeat(values, self.config.group_size, axis=1))
        return seen

    def _products(self, queries: Array, keys: Array) -> Array:
        wide = np.repeat(keys.astype(np.float64), self.config.group_size, axis=1)
        scale = (self.config.query_pre_attn_scalar or self.config.head_dim) ** -0.5
        return _capped(np.einsum("qhd,khd->hqk", queries, wide) * scale, self.config.attn_logit_softcapping)

    def _turned(self, x: Array, group: LayerGroup) -> Array:
        turn = rotary(self.config, group)
        frequencies = turn.long if turn.long and self.seen > turn.length else turn.frequencies
        angles = np.arange(len(x))[:, None, None] * np.array(frequencies)
        low, high, rest = np.split(x, [turn.dim // 2, turn.dim], axis=-1)
        cos, sin = np.cos(angles) * turn.factor, np.sin(angles) * turn.factor
        return np.concatenate([low * cos - high * sin, high * cos + low * sin, rest], axis=-1)


def _f32(x: Array) -> npt.NDArray[np.float32]:
    return x.astype(np.float32)


def _capped(x: Array, cap: float | None) -> Array:
    return x if cap is None else cap * np.tanh(x / cap)


class WindowedModel(NumpyModel):
    """Behind an engine's windows, as StreamingLLM defines them: what a query sees gets the positions 0, 1, 2 …"""

    def __init__(self, artifact: Artifact, engine: EngineConfig) -> None:
        super().__init__(artifact)
        self.engine = engine

    def _attended(self, queries: Array, keys: Array, values: Array, group: LayerGroup) -> Array:
        window = self.engine.window(group)
        rows = []
        for i, query in enumerate(queries):
            seen = [key for key in range(i + 1) if key < window.sinks or key > i - window.recent]
            at_the_end = np.concatenate([np.zeros((len(seen) - 1, *query.shape)), query[None]])
            scores = self._products(self._turned(at_the_end, group)[-1:], self._turned(keys[seen], group))
            rows.append(self._weighed(scores, values[seen]))
        return np.concatenate(rows)
