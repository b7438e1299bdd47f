"""Keys and values appended, and attention over them, on WebGPU: against dense attention in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from kvscape.compiler.kernels.webgpu.attention import RANGE, paged_attention_function, tile_tokens
from kvscape.compiler.kernels.webgpu.pages import PAGES, Shape
from kvscape.compiler.kernels.webgpu.rope import rope_append_function
from kvscape.config import Window
from kvscape.engine.devices.tiles import query_tiles, token_ranges
from kvscape.quantization.kv import round_keys, round_values
from shader_kernels import Array, ShaderKernels, error, needs_adapter

pytestmark = needs_adapter
PAGE_SIZE, LAYER, LAYERS = 8, 1, 2
HEADS = {"grouped": (6, 2, 32, 0.0), "capped": (2, 2, 96, 20.0)}
ALL = Window()


@cache
def shape(kv_dtype: str, heads: str) -> Shape:
    q_heads, key_heads, D, cap = HEADS[heads]
    return Shape(kv_dtype, q_heads, key_heads, D, D, D**-0.5, cap)


@cache
def kernels(kv_dtype: str, heads: str) -> ShaderKernels:
    how = shape(kv_dtype, heads)
    return ShaderKernels(
        {"append": rope_append_function(how, "append"), "attend": paged_attention_function(how, "attend")}
    )


@dataclass
class Cache:
    """Sequences whose keys and values are in pages of an order of their own; queries and keys are not turned, but for
    the queries that meet the sinks."""

    kv_dtype: str
    heads: str
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        how, rng, total = shape(self.kv_dtype, self.heads), np.random.default_rng(0), sum(self.lengths)
        self.kernels, self.how = kernels(self.kv_dtype, self.heads), how
        counts = [-(-length // PAGE_SIZE) for length in self.lengths]
        order = rng.permutation(sum(counts)).astype(np.int32)
        self.tables = np.zeros((len(counts), max(counts) + 1), np.int32)
        for row, pages in zip(self.tables, np.split(order, np.cumsum(counts)[:-1]), strict=True):
            row[: len(pages)] = pages
        self.positions = np.concatenate([np.arange(length, dtype=np.int32) for length in self.lengths])
        sequence = np.repeat(np.arange(len(counts)), self.lengths)
        self.slots = self.tables[sequence, self.positions // PAGE_SIZE] * PAGE_SIZE + self.positions % PAGE_SIZE
        self.x = rng.standard_normal((total, how.q_heads + 2 * how.heads, how.D)).astype(np.float32)
        self.angles = rng.standard_normal((total, how.D // 2))
        pool = np.full((LAYERS, sum(counts), PAGE_SIZE * how.token_bytes), 0x7B, np.uint8)
        self.pool = self.kernels.tensor(pool, pool[0].nbytes)
        self.q, self.sink_q = self._append()

    def _append(self) -> list[Array]:
        still = np.concatenate([np.ones_like(self.angles), np.zeros_like(self.angles)], 1).astype(np.float32)
        turned = np.concatenate([np.cos(self.angles), np.sin(self.angles)], 1).astype(np.float32)
        inputs = [self.x.reshape(len(self.x), -1), still, turned, self.slots.astype(np.int32), self.pool, LAYER]
        result = ((len(self.x), self.how.q_heads * self.how.D), "float32")
        return self.kernels("append", inputs, [result, result])

    def attend(self, new: Sequence[int], window: Window = ALL, split: bool = False, tokens: int = 0) -> Array:
        """What the last ``new`` tokens of each sequence see."""
        rows, starts, none = self._rows(new), [0, *np.cumsum(new).tolist()], [0] * len(new)
        how, pieces = self.how, list[int]()
        tiles = query_tiles(starts, tokens or tile_tokens(how.q_heads // how.heads), 2, none)
        if split:
            tiles, pieces = token_ranges([-(-length // RANGE) for length in self.lengths], none)
            tiles.append((0, 0, 0, 0, 0))
        inputs = [self.q[rows], self.sink_q[rows], self.pool, self.tables, np.array(tiles, np.int32)]
        inputs += [np.array(pieces, np.int32), self.positions[rows]]
        inputs += [np.array([window.sinks, window.recent], np.int32), LAYER]
        scratch = ((len(tiles) * how.q_heads * (how.D + 2),), "float32")
        return self.kernels("attend", inputs, [((len(rows), how.q_heads * how.D), "float32"), scratch])[0]

    def expected(self, new: Sequence[int], window: Window = ALL) -> Array:
        ends = np.cumsum(self.lengths)
        parts = [
            self._dense(slice(end - length, end), count, window)
            for end, length, count in zip(ends, self.lengths, new, strict=True)
        ]
        return np.concatenate(parts).reshape(sum(new), -1)

    def _rows(self, new: Sequence[int]) -> Array:
        return np.concatenate([np.arange(end - n, end) for end, n in zip(np.cumsum(self.lengths), new, strict=True)])

    def _dense(self, sequence: slice, new: int, window: Window) -> Array:
        how, x = self.how, self.x[sequence]
        keys = round_keys(x[:, how.q_heads : how.q_heads + how.heads], self.kv_dtype)
        values = round_values(x[:, how.q_heads + how.heads :], self.kv_dtype)
        wide = [np.repeat(part.astype(np.float64), how.q_heads // how.heads, 1) for part in (keys, values)]
        q = x[-new:, : how.q_heads].astype(np.float64)
        low, high = np.split(q, 2, axis=2)
        cos, sin = (part(self.angles[sequence][-new:, None]) for part in (np.cos, np.sin))
        turned = np.concatenate([low * cos - high * sin, low * sin + high * cos], 2)
        scores, sink_scores = (np.einsum("qhd,khd->hqk", each, wide[0]) * how.scale for each in (q, turned))
        key, position = np.arange(len(x)), np.arange(len(x) - new, len(x))[:, None]
        scores = np.where(key < window.sinks, sink_scores, scores)
        scores = how.soft_cap * np.tanh(scores / how.soft_cap) if how.soft_cap else scores
        visible = (key <= position) & ((key < window.sinks) | (key > position - window.recent))
        weights = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        result: Array = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), wide[1])
        return result


LIMITS = {"f32": 1e-6, "f16": 5e-4, "int8": 2e-3}


@pytest.mark.parametrize(("kv_dtype", "heads"), [*((kv_dtype, "grouped") for kv_dtype in PAGES), ("f16", "capped")])
def test_attention_is_that_of_the_rounded_keys_and_values(kv_dtype: str, heads: str) -> None:
    cache_ = Cache(kv_dtype, heads, (1, 70, 150))
    assert error(cache_.attend((1, 70, 40)), cache_.expected((1, 70, 40))) < LIMITS[kv_dtype]


@pytest.mark.parametrize("kv_dtype", PAGES)
def test_sinks_and_windows(kv_dtype: str) -> None:
    cache_, window = Cache(kv_dtype, "grouped", (20, 200)), Window(80, 5)
    for new in ((1, 1), (20, 90)):
        assert error(cache_.attend(new, window), cache_.expected(new, window)) < LIMITS[kv_dtype]


@pytest.mark.parametrize("window", [ALL, Window(80, 5)])
@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
def test_what_a_token_sees_depends_on_neither_tile_nor_batch(kv_dtype: str, window: Window) -> None:
    cache_ = Cache(kv_dtype, "grouped", (200, 3))
    many = cache_.attend((70, 3), window)
    np.testing.assert_array_equal(cache_.attend((70, 3), window, tokens=2), many)
    np.testing.assert_array_equal(cache_.attend((1, 1), window, split=True), many[[69, 72]])
    np.testing.assert_array_equal(cache_.attend((1, 1), window), many[[69, 72]])


def test_other_layers_and_slots_are_left_alone() -> None:
    cache_ = Cache("int8", "grouped", (9,))
    pool = cache_.kernels.rows(cache_.pool)
    assert (pool[1 - LAYER] == 0x7B).all()
    words, rest = cache_.how.words, PAGE_SIZE * cache_.how.token_bytes
    page = pool[LAYER][cache_.tables[0, 1]].view(np.uint32)
    assert (page[words : PAGE_SIZE * words] == 0x7B7B7B7B).all() and len(page) == rest // 4
