"""A KV pool in numpy: random pages for several sequences, and what pages and attention should hold, written plainly."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import tvm
from built_kernels import BEST_ISA, Array, Kernels, garbage

from kvscape.compiler.kernels.cpu.attention import RANGE, paged_attention, tile_tokens
from kvscape.compiler.kernels.cpu.group_append import group_append
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.compiler.kernels.cpu.rope_append import rope_append
from kvscape.config import KEY_GROUP, KVPrecision, Window
from kvscape.engine.devices.tiles import query_tiles, token_ranges
from kvscape.quantization.kv import rotate

DTYPES = {"f32": "float32", "f16": "float16", "int8": "int8"}
LAYERS, LAYER = 3, 1
THETA = 1e4


@dataclass(frozen=True)
class Heads:
    """Shape and precision of one attention layer; ``group`` query heads share a key head.

    The first ``rotary`` dimensions of a head are rotated, 0 means all; scores are bent below ``soft_cap``, 0 means not.
    """

    kv_dtype: str
    heads: int
    group: int
    dim: int
    isa: str = BEST_ISA
    rotary: int = 0
    scale: float = 0.0
    soft_cap: float = 0.0

    @property
    def turned_dim(self) -> int:
        return self.rotary or self.dim

    @property
    def q_heads(self) -> int:
        return self.heads * self.group

    @property
    def precision(self) -> KVPrecision:
        return KVPrecision.parse(self.kv_dtype)

    @property
    def grouped(self) -> bool:
        """Whether keys are rounded in groups."""
        return self.precision.key_group > 1

    @property
    def pages(self) -> Pages:
        return Pages(self.precision, self.heads, self.dim)

    @property
    def qkv_width(self) -> int:
        return (self.q_heads + 2 * self.heads) * self.dim

    def qkv(self, length: int, seed: int) -> Array:
        return np.random.default_rng(seed).standard_normal((length, self.qkv_width), np.float32)

    def split(self, qkv: Array) -> tuple[Array, Array, Array]:
        """Queries [n, q_heads, dim], keys and values [n, heads, dim]."""
        wide = qkv.reshape(len(qkv), -1, self.dim)
        return wide[:, : self.q_heads], wide[:, self.q_heads : -self.heads], wide[:, -self.heads :]


@cache
def kernels(heads: Heads) -> Kernels:
    pages = heads.pages
    functions = {
        "rope_append": rope_append(pages, heads.q_heads, heads.turned_dim),
        "paged_attention": paged_attention(pages, heads.q_heads, heads.scale or heads.dim**-0.5, heads.soft_cap),
    }
    if heads.grouped:
        functions["group_append"] = group_append(pages, heads.q_heads, heads.turned_dim)
    return Kernels(functions, heads.isa)


def frequencies(dim: int) -> Array:
    """Angle per position of each pair of dimensions, f32 [dim / 2]."""
    return (THETA ** (-np.arange(0, dim, 2) / dim)).astype(np.float32)


def rope(positions: Array, dim: int) -> Array:
    """Cosines, then sines, f32 [n, dim]."""
    angles = positions.astype(np.float64)[:, None] * frequencies(dim)
    return np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def rotated(x: Array, table: Array) -> Array:
    """``x`` [n, heads, dim], its first dimensions, as many as the table has, rotated by halves."""
    low, high, rest = np.split(x, [table.shape[1] // 2, table.shape[1]], -1)
    cos, sin = np.split(table[:, None], 2, -1)
    return np.concatenate([low * cos - high * sin, low * sin + high * cos, rest], -1)


class PagedCase:
    """Pages of sequences of up to ``lengths`` tokens, in random order, full of garbage that is no NaN."""

    def __init__(self, heads: Heads, lengths: Sequence[int], page_size: int, seed: int = 0) -> None:
        self.heads, self.page_size = heads, page_size
        widths = [-(-length // page_size) for length in lengths]
        self.num_pages = sum(widths) + 2
        order = np.random.default_rng(seed).permutation(self.num_pages).tolist()
        self.tables = np.zeros((len(lengths), max(widths)), np.int32)
        for row, width in zip(self.tables, widths, strict=True):
            row[:width] = [order.pop() for _ in range(width)]
        self.pool: Any = tvm.runtime.tensor(
            garbage((LAYERS, self.num_pages, page_size * heads.pages.token_bytes), "uint8")
        )
        self.tails: Any = tvm.runtime.tensor(
            garbage((LAYERS, len(lengths), heads.heads * heads.dim * KEY_GROUP), "float16")
        )
        self.groups: dict[tuple[int, int], Array] = {}  # unrounded keys by sequence and group, [heads, dim x 16]

    def slots(self, sequence: int, positions: Array) -> Array:
        result: Array = self.tables[sequence, positions // self.page_size] * self.page_size + positions % self.page_size
        return result.astype(np.int32)

    def append(self, qkv: Array, sequence: int, start: int) -> Array:
        """Append rows of ``qkv`` to a sequence from position ``start`` on; return the rotated queries."""
        return self.append_windowed(qkv, sequence, start, Window())[0]

    def append_windowed(self, qkv: Array, sequence: int, start: int, window: Window) -> tuple[Array, Array]:
        """Also return the queries that meet the sinks, rotated as the last token of a full window at most."""
        positions = np.arange(start, start + len(qkv), dtype=np.int32)
        tables = [rope(where, self.heads.turned_dim) for where in (positions, np.minimum(positions, window.size - 1))]
        inputs = [qkv, *tables, self.slots(sequence, positions), self.pool, LAYER]
        shape = (len(qkv), self.heads.q_heads * self.heads.dim)
        q, sink_q = kernels(self.heads)("rope_append", inputs, [(shape, "float32"), (shape, "float32")])
        if self.heads.grouped:
            self._append_groups(qkv, tables[0], positions, sequence)
        return q, sink_q

    def _append_groups(self, qkv: Array, table: Array, positions: Array, sequence: int) -> None:
        groups = np.unique(positions // KEY_GROUP).tolist()
        rows = np.array([[0, len(qkv), sequence, 1]], np.int32)
        inputs = [qkv, table, positions, rows, self.tables[[sequence]], self.pool, self.tails, LAYER]
        shape = (1 + len(groups), self.heads.heads, self.heads.dim * KEY_GROUP)
        (own,) = kernels(self.heads)("group_append", inputs, [(shape, "float32")])
        self.groups |= {(sequence, group): own[1 + index] for index, group in enumerate(groups)}

    def attend(
        self,
        q: Array,
        spans: Sequence[tuple[int, int, int]],
        tokens: int | None = None,
        deal: int = 1,
        sink_q: Array | None = None,
        window: Window | None = None,
        split: bool = False,
    ) -> Array:
        """Attention of the rows of ``q``; ``spans`` are (sequence, start, stop) of their positions, in order.

        ``tokens`` a tile, by default the most; ``deal`` as in ``query_tiles``; by default there is no window.
        With ``split``, single tokens whose ranges of keys are tasks of their own.
        """
        seen = window or Window()
        limits = np.array([seen.sinks, seen.recent], np.int32)
        starts = [0, *accumulate(stop - start for _, start, stop in spans)]
        positions = np.concatenate([np.arange(start, stop) for _, start, stop in spans]).astype(np.int32)
        tables = self.tables[[sequence for sequence, _, _ in spans]]
        own, zeros = self._own(spans)
        if split:
            cut, pieces = token_ranges([-(-stop // RANGE) for _, _, stop in spans], zeros.tolist())
        else:
            cut, pieces = query_tiles(starts, tokens or tile_tokens(self.heads.group), deal, zeros.tolist()), []
        tiles = [np.array(cut, np.int32), np.array(pieces, np.int32)]
        inputs = [q, q if sink_q is None else sink_q, self.pool, tables, *tiles, positions, limits, *own, LAYER]
        (y,) = kernels(self.heads)("paged_attention", inputs, [(q.shape, "float32")])
        return y

    def _own(self, spans: Sequence[tuple[int, int, int]]) -> tuple[list[Array], Array]:
        """The unrounded groups of the spans, and where group 0 of each span's sequence would be among them."""
        if not self.heads.grouped:
            return [], np.zeros(len(spans), np.int32)
        groups = [range(start // KEY_GROUP, (stop - 1) // KEY_GROUP + 1) for _, start, stop in spans]
        own = [self.groups[span[0], group] for span, of in zip(spans, groups, strict=True) for group in of]
        before = np.cumsum([0, *map(len, groups[:-1])])
        return [np.stack(own)], before - [of.start for of in groups]

    def turned(self, x: Array) -> Array:
        """Keys or queries as the cache has them."""
        return rotate(x) if self.heads.precision.key == "int8" else x

    def stored(self) -> tuple[Array, Array]:
        """Keys and values f32 [pages, page_size, heads, dim] of the layer, read as pages.py documents it.

        int4 keys are [pages, page_size / 8, 8, ...] codes that their groups scale: see ``stored_of``.
        """
        return self._stored_keys(), self._stored_values()

    def _region(self, index: int) -> Array:
        """The bytes [pages, heads, ...] of keys, values, key scales or value scales."""
        pages = self.heads.pages
        sizes = [pages.key_bytes, pages.value_bytes, pages.key_scale_bytes, pages.value_scale_bytes]
        bounds = np.cumsum([0, *sizes]) * self.heads.heads * self.page_size
        region = self.pool.numpy()[LAYER][:, bounds[index] : bounds[index + 1]]
        return np.ascontiguousarray(region).reshape(self.num_pages, self.heads.heads, -1)

    def _stored_keys(self) -> Array:
        dtype, p, h, d = self.heads.precision.key, self.page_size, self.heads.heads, self.heads.dim
        raw = self._region(0)
        if dtype == "int4":
            codes = _nibbles(raw.reshape(-1, h, p // 8, d // 2, 8).swapaxes(-1, -2))
        else:
            codes = raw.view(DTYPES[dtype]).reshape(-1, h, p // 8, d, 8).swapaxes(-1, -2).astype(np.float32)
        keys = codes.reshape(-1, h, p, d).swapaxes(1, 2)
        return keys * self._scales(2)[..., 0, None] if dtype == "int8" else keys

    def _stored_values(self) -> Array:
        dtype, p, h, d = self.heads.precision.value, self.page_size, self.heads.heads, self.heads.dim
        raw = self._region(1)
        if dtype == "int4":
            scales = self._scales(3)
            codes = _nibbles(raw.reshape(-1, h, p, d // 2)).swapaxes(1, 2)
            return rotate(codes * scales[..., :1] + scales[..., 1:])
        values = raw.view(DTYPES[dtype]).reshape(-1, h, p, d).swapaxes(1, 2).astype(np.float32)
        return values * self._scales(3)[..., 0, None] if dtype == "int8" else values

    def _scales(self, index: int) -> Array:
        """[pages, page_size, heads, scales of a token]."""
        halves = self._region(index).view(np.float16).astype(np.float32)
        return halves.reshape(self.num_pages, self.heads.heads, self.page_size, -1).swapaxes(1, 2)

    def stored_of(self, sequence: int, length: int) -> tuple[Array, Array]:
        """A sequence's keys and values f32 [length, heads, dim]; int4 keys of an unfinished group are 0.

        int8 keys are as they lie there, rotated, as the queries are that meet them.
        """
        slots = self.slots(sequence, np.arange(length))
        keys, values = (part[slots // self.page_size, slots % self.page_size] for part in self.stored())
        if self.heads.grouped:
            keys = self._scaled(keys, slots)
        return keys, values

    def _scaled(self, codes: Array, slots: Array) -> Array:
        halves = self._region(2).view(np.float16).astype(np.float32)
        halves = halves.reshape(self.num_pages, self.heads.heads, self.page_size // 8, self.heads.dim)
        keys = np.zeros_like(codes)
        for start in range(0, len(codes) - KEY_GROUP + 1, KEY_GROUP):
            step, minimum = (halves[slot // self.page_size, :, slot % self.page_size // 8] for slot in
                             (slots[start], slots[start + 8]))  # fmt: skip
            keys[start : start + KEY_GROUP] = codes[start : start + KEY_GROUP] * step + minimum
        return keys

    def unrounded_of(self, sequence: int, length: int) -> Array:
        """A sequence's keys f32 [length, heads, dim] as its own group's queries meet them."""
        groups = [self.groups[sequence, group] for group in range((length - 1) // KEY_GROUP + 1)]
        keys = np.stack(groups).reshape(len(groups), self.heads.heads, self.heads.dim, KEY_GROUP)
        return keys.transpose(0, 3, 1, 2).reshape(-1, self.heads.heads, self.heads.dim)[:length]

    def untouched_bytes(self, written: Array, keys_written: Array) -> Array:
        """All bytes of the pool but those of the slots whose values, and those whose keys, were written."""
        raw = self.pool.numpy().copy()
        mask = np.zeros(raw.shape, bool)
        pages, h, p = self.heads.pages, self.heads.heads, self.page_size
        of_eight = np.repeat(np.arange(p).reshape(-1, 1, 8), pages.key_bytes, 1).ravel()
        scale_of = np.arange(p).repeat(pages.key_scale_bytes)
        width = {"f32": 4, "f16": 2}.get(self.heads.precision.key, 1)
        if width > 1:
            of_eight = np.repeat(np.repeat(np.arange(p).reshape(-1, 1, 8), self.heads.dim, 1).ravel(), width)
        value_of = np.arange(p).repeat(pages.value_bytes)
        value_scale_of = np.arange(p).repeat(pages.value_scale_bytes)
        owner = [np.tile(part, h) for part in (of_eight, value_of, scale_of, value_scale_of)]
        is_key = np.concatenate([np.full(len(part), index in (0, 2)) for index, part in enumerate(owner)])
        token = np.concatenate(owner)
        for slots, wanted in ((written, ~is_key), (keys_written, is_key)):
            for slot in slots:
                mask[LAYER, slot // p] |= (token == slot % p) & wanted
        untouched: Array = raw[~mask]
        return untouched


def _nibbles(raw: Array) -> Array:
    """[..., dim / 2] bytes -> [..., dim]: lower halves, then upper ones."""
    return np.concatenate([raw & 15, raw >> 4], -1).astype(np.float32)


def attention(q: Array, keys: Array, values: Array, own: Array | None = None, heads: Heads | None = None) -> Array:
    """Dense causal attention in f64: q [n, q_heads, dim], keys and values [n, heads, dim] -> [n, q_heads x dim].

    ``own`` are the keys that queries of the same group of 16 meet instead; ``heads`` has the scale and the soft cap.
    """
    scores = _scores(q, keys)
    if own is not None:
        group = np.arange(len(q)) // KEY_GROUP
        scores = np.where(group[:, None] == group, _scores(q, own), scores)
    if heads is not None and heads.scale:
        scores *= heads.scale * np.sqrt(heads.dim)
    if heads is not None and heads.soft_cap:
        scores = heads.soft_cap * np.tanh(scores / heads.soft_cap)
    scores[:, *np.triu_indices(len(q), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    wide = np.repeat(values, q.shape[1] // values.shape[1], axis=1).astype(np.float64)
    result: Array = np.einsum("hqk,khd->qhd", weights, wide).reshape(len(q), -1)
    return result


def _scores(q: Array, keys: Array) -> Array:
    wide = np.repeat(keys, q.shape[1] // keys.shape[1], axis=1).astype(np.float64)
    result: Array = np.einsum("qhd,khd->hqk", q.astype(np.float64), wide) / np.sqrt(q.shape[-1])
    return result
