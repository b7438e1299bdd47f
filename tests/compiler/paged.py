"""A KV pool in numpy: random pages for several sequences, and what pages and attention should hold, written plainly."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tvm
from built_kernels import BEST_ISA, Array, Kernels, garbage

from kvscape.compiler.kernels.cpu.attention import paged_attention, tile_tokens
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.compiler.kernels.cpu.rope_append import rope_append
from kvscape.config import Window
from kvscape.engine.devices.tiles import query_tiles

POOL_DTYPES = {"f32": "float32", "f16": "float16", "int8": "uint8"}
LAYERS, LAYER = 3, 1
THETA = 1e4


@dataclass(frozen=True)
class Heads:
    """Shape and precision of one attention layer; ``group`` query heads share a key head."""

    kv_dtype: str
    heads: int
    group: int
    dim: int
    isa: str = BEST_ISA

    @property
    def q_heads(self) -> int:
        return self.heads * self.group

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
    pages = Pages(heads.kv_dtype, heads.heads, heads.dim)
    functions = {
        "rope_append": rope_append(pages, heads.q_heads),
        "paged_attention": paged_attention(pages, heads.q_heads),
    }
    return Kernels(functions, heads.isa)


def frequencies(dim: int) -> Array:
    """Angle per position of each pair of dimensions, f32 [dim / 2]."""
    return (THETA ** (-np.arange(0, dim, 2) / dim)).astype(np.float32)


def rope(positions: Array, dim: int) -> Array:
    """Cosines, then sines, f32 [n, dim]."""
    angles = positions.astype(np.float64)[:, None] * frequencies(dim)
    return np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def rotated(x: Array, table: Array) -> Array:
    """``x`` [n, heads, dim], rotated by halves."""
    half = x.shape[-1] // 2
    low, high, cos, sin = x[..., :half], x[..., half:], table[:, None, :half], table[:, None, half:]
    return np.concatenate([low * cos - high * sin, low * sin + high * cos], -1)


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
        per_token = 2 * heads.heads * (heads.dim + (2 if heads.kv_dtype == "int8" else 0))
        shape = (LAYERS, self.num_pages, page_size * per_token)
        self.pool: Any = tvm.runtime.tensor(garbage(shape, POOL_DTYPES[heads.kv_dtype]))

    def slots(self, sequence: int, positions: Array) -> Array:
        result: Array = self.tables[sequence, positions // self.page_size] * self.page_size + positions % self.page_size
        return result.astype(np.int32)

    def append(self, qkv: Array, sequence: int, start: int) -> Array:
        """Append rows of ``qkv`` to a sequence from position ``start`` on; return the rotated queries."""
        return self.append_windowed(qkv, sequence, start, Window())[0]

    def append_windowed(self, qkv: Array, sequence: int, start: int, window: Window) -> tuple[Array, Array]:
        """Also return the queries that meet the sinks, rotated as the last token of a full window at most."""
        positions = np.arange(start, start + len(qkv), dtype=np.int32)
        tables = [rope(where, self.heads.dim) for where in (positions, np.minimum(positions, window.size - 1))]
        inputs = [qkv, *tables, self.slots(sequence, positions), self.pool, LAYER]
        shape = (len(qkv), self.heads.q_heads * self.heads.dim)
        q, sink_q = kernels(self.heads)("rope_append", inputs, [(shape, "float32"), (shape, "float32")])
        return q, sink_q

    def attend(
        self,
        q: Array,
        spans: Sequence[tuple[int, int, int]],
        tokens: int | None = None,
        deal: int = 1,
        sink_q: Array | None = None,
        window: Window | None = None,
    ) -> Array:
        """Attention of the rows of ``q``; ``spans`` are (sequence, start, stop) of their positions, in order.

        ``tokens`` a tile, by default the most; ``deal`` as in ``query_tiles``; by default there is no window.
        """
        seen = window or Window()
        limits = np.array([seen.sinks, seen.recent], np.int32)
        starts = np.cumsum([0, *(stop - start for _, start, stop in spans)]).astype(np.int32)
        tiles = query_tiles(starts, tokens or tile_tokens(self.heads.group), deal)
        positions = np.concatenate([np.arange(start, stop) for _, start, stop in spans]).astype(np.int32)
        tables = self.tables[[sequence for sequence, _, _ in spans]]
        (y,) = kernels(self.heads)(
            "paged_attention",
            [q, q if sink_q is None else sink_q, self.pool, tables, tiles, positions, limits, LAYER],
            [(q.shape, "float32")],
        )
        return y

    def stored(self) -> tuple[Array, Array]:
        """Keys and values f32 [pages, page_size, heads, dim] of the layer, read as pages.py documents it."""
        h, d, p = self.heads.heads, self.heads.dim, self.page_size
        page = self.pool.numpy()[LAYER]
        body = (
            page[:, : 2 * h * p * d].view(np.int8 if self.heads.kv_dtype == "int8" else page.dtype).astype(np.float32)
        )
        keys = body[:, : h * p * d].reshape(-1, h, p // 16, d, 16).transpose(0, 2, 4, 1, 3).reshape(-1, p, h, d)
        values = body[:, h * p * d :].reshape(-1, h, p, d).transpose(0, 2, 1, 3)
        if self.heads.kv_dtype != "int8":
            return keys, values
        scales = np.ascontiguousarray(page[:, 2 * h * p * d :]).view(np.float16).astype(np.float32)
        key_scales, value_scales = scales.reshape(-1, 2, h, p).transpose(1, 0, 3, 2)[..., None]
        return keys * key_scales, values * value_scales

    def stored_of(self, sequence: int, length: int) -> tuple[Array, Array]:
        """A sequence's keys and values f32 [length, heads, dim]."""
        slots = self.slots(sequence, np.arange(length))
        keys, values = (part[slots // self.page_size, slots % self.page_size] for part in self.stored())
        return keys, values

    def untouched_bytes(self, written: Array) -> Array:
        """All bytes of the pool but those of the slots ``written``."""
        raw = self.pool.numpy().view(np.uint8).copy()
        mask = np.zeros(raw.shape, bool)
        h, d, p = self.heads.heads, self.heads.dim, self.page_size
        size = self.pool.numpy().itemsize
        element = np.arange(h * p * d)
        key_token = element // (16 * d) % (p // 16) * 16 + element % 16
        value_token = element // d % p
        tokens = np.repeat(np.concatenate([key_token, value_token]), size)
        if self.heads.kv_dtype == "int8":
            tokens = np.concatenate([tokens, np.repeat(np.tile(np.arange(p), 2 * h), 2)])
        for slot in written:
            mask[LAYER, slot // p] |= tokens == slot % p
        untouched: Array = raw[~mask]
        return untouched


def attention(q: Array, keys: Array, values: Array) -> Array:
    """Dense causal attention in f64: q [n, q_heads, dim], keys and values [n, heads, dim] -> [n, q_heads x dim]."""
    group = q.shape[1] // keys.shape[1]
    wide_keys, wide_values = (np.repeat(part, group, axis=1).astype(np.float64) for part in (keys, values))
    scores = np.einsum("qhd,khd->hqk", q.astype(np.float64), wide_keys) / np.sqrt(q.shape[-1])
    scores[:, *np.triu_indices(len(q), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    result: Array = np.einsum("hqk,khd->qhd", weights, wide_values).reshape(len(q), -1)
    return result
