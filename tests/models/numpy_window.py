"""Llama in plain numpy behind a window: StreamingLLM (arXiv 2309.17453) as it is defined, one query after the other."""

import numpy as np
from numpy_llama import Array, NumpyLlama

from kvscape.artifact import Artifact
from kvscape.config import Window


class WindowedLlama(NumpyLlama):
    """What a query sees gets the positions 0, 1, 2 … inside the cache, the query the last of them."""

    def __init__(self, artifact: Artifact, window: Window) -> None:
        super().__init__(artifact)
        self.window = window

    def _attention(self, x: Array, name: str) -> Array:
        c = self.config
        heads = self._linear(x, f"{name}.qkv_proj").reshape(len(x), -1, c.head_dim)
        q_heads, k_heads = c.num_attention_heads, c.num_key_value_heads
        queries, keys, values = np.split(heads, [q_heads, q_heads + k_heads], axis=1)
        rows = [
            self._attend(queries[i], keys[seen], values[seen]) for i, seen in enumerate(map(self._seen, range(len(x))))
        ]
        return self._linear(np.stack(rows), f"{name}.o_proj")

    def _seen(self, position: int) -> list[int]:
        window = self.window
        return [key for key in range(position + 1) if key < window.sinks or key > position - window.recent]

    def _attend(self, query: Array, keys: Array, values: Array) -> Array:
        """One query [q_heads, dim] over keys and values [seen, heads, dim] not rotated yet."""
        at_the_end = np.concatenate([np.zeros((len(keys) - 1, *query.shape)), query[None]])
        q, k = self._rope(at_the_end)[-1], np.repeat(self._rope(keys), self.config.group_size, axis=1)
        scores = np.einsum("hd,khd->hk", q, k) / np.sqrt(self.config.head_dim)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y: Array = np.einsum("hk,khd->hd", weights, np.repeat(values, self.config.group_size, axis=1))
        return y.ravel()
