"""Attention over the paged cache: rotary positions, appending, and what queries see."""

from dataclasses import dataclass
from typing import Any

from kvscape.config import KEY_GROUP, KVPrecision
from kvscape.models.ops import Tensor, call, placeholder
from kvscape.models.step import Cache, Step


@dataclass(frozen=True)
class AttentionShape:
    """KV precision, query heads, key heads, and the dimensions of a head."""

    precision: KVPrecision
    q_heads: int
    heads: int
    dim: int

    def constants(self, layer: int) -> list[Any]:
        """As operators take them; ``layer`` is the index in the pool."""
        return [layer, self.precision.name, self.q_heads, self.heads, self.dim]


def attend(
    shape: AttentionShape, qkv: Tensor, rope: Tensor, sink_rope: Tensor, step: Step, cache: Cache, layer: int
) -> Tensor:
    """Append keys and values of ``qkv`` [n, (q_heads + 2 heads) dim]; return what queries see [n, q_heads dim]."""
    constants = shape.constants(layer)
    queries = placeholder([qkv.shape[0], shape.q_heads * shape.dim])
    q, sink_q, cache.pool = call(
        "rope_append",
        [qkv, rope, sink_rope, cache.slots, cache.pool, *constants],
        [queries, queries, _same(cache.pool)],
    )
    own = [_append_groups(shape, qkv, rope, step, cache, layer)] if shape.precision.key_group > 1 else []
    places = [cache.pool, cache.page_tables, step.tiles, step.pieces, step.positions, cache.window]
    return call("paged_attention", [q, sink_q, *places, *own, *constants], queries)


def _append_groups(shape: AttentionShape, qkv: Tensor, rope: Tensor, step: Step, cache: Cache, layer: int) -> Tensor:
    """Append keys that are rounded in groups; return the unrounded ones of the groups that this step adds to."""
    n, s = qkv.shape[0], step.sequences.shape[0]
    # A sequence may enter one group that it does not fill, and leave another.
    own = placeholder([n // KEY_GROUP + 2 * s, shape.heads, shape.dim * KEY_GROUP])
    arguments = [qkv, rope, step.positions, step.sequences, cache.page_tables, cache.pool, cache.tails]
    result, cache.pool, cache.tails = call(
        "group_append", [*arguments, *shape.constants(layer)], [own, _same(cache.pool), _same(cache.tails)]
    )
    return result


def _same(tensor: Tensor) -> Tensor:
    return placeholder(tensor.shape, tensor.dtype)
