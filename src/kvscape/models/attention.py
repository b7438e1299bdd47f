"""Attention over the paged cache: rotary positions, appending, and what queries see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.relax.frontend import nn

from kvscape.config import KEY_GROUP, KVPrecision, ModelConfig
from kvscape.models.layers import Linear, RMSNorm, Weights
from kvscape.models.ops import Tensor, call, placeholder
from kvscape.models.rope import Rotary, rotated_dim
from kvscape.models.step import Cache, Step


@dataclass(frozen=True)
class AttentionShape:
    """KV precision, query heads, key heads, the dimensions of a head and those that are rotated; scores are products
    times ``scale``, bent below ``soft_cap`` where that is not 0."""

    precision: KVPrecision
    q_heads: int
    heads: int
    dim: int
    rotary: int
    scale: float
    soft_cap: float

    @classmethod
    def of(cls, config: ModelConfig, precision: KVPrecision) -> "AttentionShape":
        return cls(
            precision,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            rotated_dim(config),
            float(config.query_pre_attn_scalar or config.head_dim) ** -0.5,
            float(config.attn_logit_softcapping or 0),
        )

    def constants(self, layer: int) -> list[Any]:
        """As operators take them; ``layer`` is the index in the pool."""
        sizes = [self.q_heads, self.heads, self.dim, self.rotary]
        return [layer, self.precision.name, *sizes, self.scale, self.soft_cap]


@dataclass(frozen=True)
class Place:
    """Where a layer keeps its keys and values, how they are rotated, and the queries that meet the sinks."""

    cache: Cache
    layer: int
    rope: Tensor
    sink_rope: Tensor


class Attention(nn.Module):  # type: ignore[misc]
    """Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), with whatever of a bias, a scale and a soft cap
    the model's config asks for; with ``head_norms`` each head of queries and keys is normalized before it is rotated.
    """

    def __init__(
        self, config: ModelConfig, weights: Weights, name: str, precision: KVPrecision, head_norms: bool = False
    ) -> None:
        super().__init__()
        self.shape, self.eps = AttentionShape.of(config, precision), config.rms_norm_eps
        q_size, heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads
        rows = q_size + 2 * heads * config.head_dim
        self.qkv_proj = Linear(weights, f"{name}.qkv_proj", rows, config.hidden_size, config.attention_bias)
        self.o_proj = Linear(weights, f"{name}.o_proj", config.hidden_size, q_size)
        if head_norms:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.head_norms = head_norms

    def forward(self, x: Tensor, step: Step, place: Place) -> Tensor:
        qkv = self.qkv_proj(x)
        if self.head_norms:
            sizes = [self.shape.q_heads, self.shape.heads, self.shape.dim, self.eps]
            qkv = call("head_norm", [qkv, self.q_norm.weight, self.k_norm.weight, *sizes], placeholder(qkv.shape))
        return self.o_proj(attend(self.shape, qkv, step, place))


def attend(shape: AttentionShape, qkv: Tensor, step: Step, place: Place) -> Tensor:
    """Append keys and values of ``qkv`` [n, (q_heads + 2 heads) dim]; return what queries see [n, q_heads dim]."""
    constants, cache = shape.constants(place.layer), place.cache
    queries = placeholder([qkv.shape[0], shape.q_heads * shape.dim])
    q, sink_q, cache.pool = call(
        "rope_append",
        [qkv, place.rope, place.sink_rope, cache.slots, cache.pool, *constants],
        [queries, queries, _same(cache.pool)],
    )
    own = [_append_groups(shape, qkv, step, place)] if shape.precision.key_group > 1 else []
    places = [cache.pool, cache.page_tables, step.tiles, step.pieces, step.positions, cache.window]
    return call("paged_attention", [q, sink_q, *places, *own, *constants], queries)


def _append_groups(shape: AttentionShape, qkv: Tensor, step: Step, place: Place) -> Tensor:
    """Append keys that are rounded in groups; return the unrounded ones of the groups that this step adds to."""
    n, s, cache = qkv.shape[0], step.sequences.shape[0], place.cache
    # A sequence may enter one group that it does not fill, and leave another.
    own = placeholder([n // KEY_GROUP + 2 * s, shape.heads, shape.dim * KEY_GROUP])
    arguments = [qkv, place.rope, step.positions, step.sequences, cache.page_tables, cache.pool, cache.tails]
    result, cache.pool, cache.tails = call(
        "group_append", [*arguments, *shape.constants(place.layer)], [own, _same(cache.pool), _same(cache.tails)]
    )
    return result


def rope_table(rotary: Rotary, positions: Tensor, seen: Tensor) -> Tensor:
    """Cosines and sines [n, rotated dimensions]; ``seen`` [1] is the number of tokens that a query may see at most."""
    frequencies = _constant(rotary.frequencies)
    if rotary.long:
        both = [frequencies, _constant(rotary.long), seen, rotary.length]
        frequencies = call("rope_frequencies", both, placeholder([rotary.dim // 2]))
    arguments = [positions, frequencies, rotary.factor]
    return call("rope_table", arguments, placeholder([positions.shape[0], rotary.dim]))


def _constant(values: tuple[float, ...]) -> Tensor:
    return nn.Tensor.from_const(np.array(values).astype(np.float32))


def _same(tensor: Tensor) -> Tensor:
    return placeholder(tensor.shape, tensor.dtype)
