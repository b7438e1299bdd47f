"""Llama in plain numpy, in f64, from the canonical weights of an artefact: no pages, no kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kvscape.artifact import Artifact
from kvscape.artifact.tensor_file import map_tensors
from kvscape.config import KEY_GROUP, KVPrecision
from kvscape.quantization.decode import decode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.kv import round_keys, round_values

Array = npt.NDArray[Any]


class NumpyLlama:
    """``int8_activations`` rounds the inputs of products with integer weights, ``kv_dtype`` keys and values."""

    def __init__(self, artifact: Artifact, kv_dtype: str = "f32", int8_activations: bool = False) -> None:
        self.config = artifact.manifest.model
        self.kv, self.int8_activations = KVPrecision.parse(kv_dtype), int8_activations
        self.tensors = artifact.manifest.tensors
        stored = map_tensors(artifact.canonical_weights)
        self.weights = {name: self._decoded(stored, name) for name in self.tensors}

    def _decoded(self, stored: dict[str, Array], name: str) -> Array:
        if f"{name}.weight" in stored:
            return stored[f"{name}.weight"].astype(np.float64)
        info = self.tensors[name]
        fmt = FORMATS[info.format]
        parts = {part: stored[f"{name}.{part}"] for part in ("q_weight", *fmt.constants)}
        return decode(parts, fmt, info.shape[-1]).astype(np.float64)

    def logits(self, token_ids: Sequence[int]) -> Array:
        """[n, vocab_size]: after each token."""
        c = self.config
        x = self.weights["model.embed_tokens"][np.asarray(token_ids)]
        for layer in range(c.num_hidden_layers):
            name = f"model.layers.{layer}"
            x = x + self._attention(self._norm(x, f"{name}.input_layernorm"), f"{name}.self_attn")
            x = x + self._mlp(self._norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp")
        head = "model.embed_tokens" if c.tie_word_embeddings else "lm_head"
        return self._linear(self._norm(x, "model.norm"), head)

    def _norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config.rms_norm_eps) * self.weights[name]
        return scaled

    def _linear(self, x: Array, name: str) -> Array:
        fmt = FORMATS[self.tensors[name].format]
        if self.int8_activations and not fmt.is_float:
            x = _rounded_to_int8(x, fmt.group_size)
        result: Array = x @ self.weights[name].T
        return result

    def _mlp(self, x: Array, name: str) -> Array:
        gate, up = np.split(self._linear(x, f"{name}.gate_up_proj"), 2, axis=-1)
        return self._linear(gate / (1 + np.exp(-gate)) * up, f"{name}.down_proj")

    def _attention(self, x: Array, name: str) -> Array:
        c, n = self.config, len(x)
        heads = self._linear(x, f"{name}.qkv_proj").reshape(n, -1, c.head_dim)
        queries, keys, values = np.split(
            heads, [c.num_attention_heads, c.num_attention_heads + c.num_key_value_heads], axis=1
        )
        queries, keys = self._rope(queries), self._rope(keys)
        values = np.repeat(round_values(values.astype(np.float32), self.kv.value), c.group_size, axis=1)
        scores = self._scores(queries, round_keys(keys.astype(np.float32), self.kv.key))
        if self.kv.key_group > 1:  # a query meets the keys of its own group unrounded
            group = np.arange(n) // KEY_GROUP
            own = self._scores(queries, round_keys(keys.astype(np.float32), "f16"))
            scores = np.where(group[:, None] == group, own, scores)
        scores[:, *np.triu_indices(n, 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self._linear(np.einsum("hqk,khd->qhd", weights, values).reshape(n, -1), f"{name}.o_proj")

    def _scores(self, queries: Array, keys: Array) -> Array:
        wide = np.repeat(keys.astype(np.float64), self.config.group_size, axis=1)
        scores: Array = np.einsum("qhd,khd->hqk", queries, wide) / np.sqrt(self.config.head_dim)
        return scores

    def _rope(self, x: Array) -> Array:
        """Rotate-half: dimension i turns with dimension i + head_dim / 2."""
        D = self.config.head_dim
        angles = np.arange(len(x))[:, None, None] * self.config.rope_theta ** (-np.arange(0, D, 2) / D)
        low, high = np.split(x, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def _rounded_to_int8(x: Array, group: int) -> Array:
    """In groups along a row; the last one has what is left of it."""
    parts = np.split(x.astype(np.float32), range(group, x.shape[1], group), axis=-1)
    scales = [np.abs(part).max(-1, keepdims=True) / np.float32(127) for part in parts]
    rounded = [np.rint(part / scale).astype(np.float64) * scale for part, scale in zip(parts, scales, strict=True)]
    return np.concatenate(rounded, axis=-1)
