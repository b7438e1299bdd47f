"""Keys and values appended, and attention over them, on WebGPU: against dense attention in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from kvscape.compiler.kernels.webgpu.attention import RANGE, paged_attention_function, tile_tokens
from kvscape.compiler.kernels.webgpu.pages import Shape
from kvscape.compiler.kernels.webgpu.rope import group_append_function, rope_append_function
from kvscape.config import KEY_GROUP, Window
from kvscape.engine.devices.tiles import query_tiles, token_ranges
from kvscape.quantization.kv import round_keys, round_values
from shader_kernels import Array, ShaderKernels, error, needs_adapter

pytestmark = needs_adapter
PAGE_SIZE, LAYER, LAYERS = 8, 1, 2
HEADS = {"grouped": (6, 2, 32, 0.0), "capped": (2, 2, 96, 20.0), "odd": (3, 1, 80, 0.0)}
ALL = Window()


@cache
def shape(kv_dtype: str, heads: str) -> Shape:
    q_heads, key_heads, D, cap = HEADS[heads]
    return Shape(kv_dtype, q_heads, key_heads, D, D, D**-0.5, cap)


@cache
def kernels(kv_dtype: str, heads: str) -> ShaderKernels:
    how = shape(kv_dtype, heads)
    functions = {"append": rope_append_function(how, "append"), "attend": paged_attention_function(how, "attend")}
    if how.grouped:
        functions["append_groups"] = group_append_function(how, "append_groups")
    return ShaderKernels(functions)


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
        self.still = np.concatenate([np.ones_like(self.angles), np.zeros_like(self.angles)], 1).astype(np.float32)
        self.q, self.sink_q = self._append()
        self.groups = dict[tuple[int, int], Array]()
        if how.grouped:
            tails = np.full((LAYERS, len(counts), how.heads * how.D * KEY_GROUP), 0x7B7B, np.uint16).view(np.float16)
            self.tails = self.kernels.tensor(tails, tails[0].nbytes)
            cuts = [length * 2 // 3 for length in self.lengths]
            self._append_groups([0] * len(cuts), cuts)
            self._append_groups(cuts, self.lengths)

    def _append_groups(self, starts: Sequence[int], stops: Sequence[int]) -> None:
        """Keys of each sequence from its start to its stop: what is not a whole group waits for the next ones."""
        spans = [(i, *span) for i, span in enumerate(zip(starts, stops, strict=True)) if span[0] < span[1]]
        firsts = np.cumsum([0, *self.lengths])
        rows = np.concatenate([np.arange(firsts[i] + start, firsts[i] + stop) for i, start, stop in spans])
        groups = [(i, group) for i, start, stop in spans for group in range(start // KEY_GROUP, -(-stop // KEY_GROUP))]
        tokens = [stop - start for _, start, stop in spans]
        before = [groups.index((i, start // KEY_GROUP)) for i, start, _ in spans]
        sequences = np.array([np.cumsum([0, *tokens[:-1]]), tokens, [i for i, *_ in spans], before], np.int32).T
        inputs = [self.x[rows].reshape(len(rows), -1), self.still[rows], self.positions[rows], sequences.copy()]
        inputs += [self.tables[[i for i, *_ in spans]], self.pool, self.tails, LAYER]
        result = ((len(groups) + 2, self.how.heads, KEY_GROUP * self.how.D), "float32")
        self.groups |= dict(zip(groups, self.kernels("append_groups", inputs, [result])[0], strict=False))

    def _append(self) -> list[Array]:
        turned = np.concatenate([np.cos(self.angles), np.sin(self.angles)], 1).astype(np.float32)
        inputs = [self.x.reshape(len(self.x), -1), self.still, turned, self.slots.astype(np.int32), self.pool, LAYER]
        result = ((len(self.x), self.how.q_heads * self.how.D), "float32")
        return self.kernels("append", inputs, [result, result])

    def attend(self, new: Sequence[int], window: Window = ALL, split: bool = False, tokens: int = 0) -> Array:
        """What the last ``new`` tokens of each sequence see."""
        rows, starts, (own, groups) = self._rows(new), [0, *np.cumsum(new).tolist()], self._own(new)
        how, pieces = self.how, list[int]()
        tiles = query_tiles(starts, tokens or tile_tokens(how.q_heads // how.heads), 2, groups)
        if split:
            tiles, pieces = token_ranges([-(-length // RANGE) for length in self.lengths], groups)
            tiles.append((0, 0, 0, 0, 0))
        inputs = [self.q[rows], self.sink_q[rows], self.pool, self.tables, np.array(tiles, np.int32)]
        inputs += [np.array(pieces, np.int32), self.positions[rows]]
        inputs += [np.array([window.sinks, window.recent], np.int32), *own, LAYER]
        scratch = ((len(tiles) * how.q_heads * (how.D + 2),), "float32")
        return self.kernels("attend", inputs, [((len(rows), how.q_heads * how.D), "float32"), scratch])[0]

    def _own(self, new: Sequence[int]) -> tuple[list[Array], list[int]]:
        """The keys of the new tokens' groups, and where a sequence's first group would be among them."""
        if not self.how.grouped:
            return [], [0] * len(new)
        starts = [length - n for length, n in zip(self.lengths, new, strict=True)]
        spans = [range(a // KEY_GROUP, -(-b // KEY_GROUP)) for a, b in zip(starts, self.lengths, strict=True)]
        own = [self.groups[i, group] for i, span in enumerate(spans) for group in span]
        before = np.cumsum([0, *map(len, spans[:-1])])
        return [np.stack(own)], [int(count) - span.start for count, span in zip(before, spans, strict=True)]

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
        keys, values = x[:, how.q_heads : how.q_heads + how.heads], x[:, how.q_heads + how.heads :]
        q = x[-new:, : how.q_heads].astype(np.float64)
        low, high = np.split(q, 2, axis=2)
        cos, sin = (part(self.angles[sequence][-new:, None]) for part in (np.cos, np.sin))
        turned = np.concatenate([low * cos - high * sin, low * sin + high * cos], 2)
        key, position = np.arange(len(x)), np.arange(len(x) - new, len(x))[:, None]
        scores = self._scores(q, turned, round_keys(keys, how.precision.key), window)
        if how.grouped:
            own = self._scores(q, turned, keys.astype(np.float16).astype(np.float32), window)
            scores = np.where(key // KEY_GROUP == position // KEY_GROUP, own, scores)
        scores = how.soft_cap * np.tanh(scores / how.soft_cap) if how.soft_cap else scores
        visible = (key <= position) & ((key < window.sinks) | (key > position - window.recent))
        seen = self._wide(round_values(values, how.precision.value))
        weights = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        result: Array = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), seen)
        return result

    def _scores(self, q: Array, turned: Array, keys: Array, window: Window) -> Array:
        plain, of_sinks = (np.einsum("qhd,khd->hqk", each, self._wide(keys)) * self.how.scale for each in (q, turned))
        met: Array = np.where(np.arange(len(keys)) < window.sinks, of_sinks, plain)
        return met

    def _wide(self, x: Array) -> Array:
        return np.repeat(x.astype(np.float64), self.how.q_heads // self.how.heads, 1)


MIXED = ("k=int8,v=int4", "k=f32,v=int8", "k=int4,v=fp8")
LIMITS = {"f32": 1e-6, "f16": 5e-4, "fp8": 5e-4, "int8": 2e-3, "int4": 2e-3} | dict.fromkeys(MIXED, 2e-3)
SHAPES = [*((kv_dtype, "grouped") for kv_dtype in LIMITS), ("f16", "capped"), ("int4", "capped"), ("int4", "odd")]


@pytest.mark.parametrize(("kv_dtype", "heads"), SHAPES)
def test_attention_is_that_of_the_rounded_keys_and_values(kv_dtype: str, heads: str) -> None:
    cache_ = Cache(kv_dtype, heads, (1, 70, 150))
    assert error(cache_.attend((1, 70, 40)), cache_.expected((1, 70, 40))) < LIMITS[kv_dtype]


@pytest.mark.parametrize("kv_dtype", LIMITS)
def test_sinks_and_windows(kv_dtype: str) -> None:
    cache_, window = Cache(kv_dtype, "grouped", (20, 200)), Window(80, 5)
    for new in ((1, 1), (20, 90)):
        assert error(cache_.attend(new, window), cache_.expected(new, window)) < LIMITS[kv_dtype]


@pytest.mark.parametrize("window", [ALL, Window(80, 5)])
@pytest.mark.parametrize("kv_dtype", ["f16", "int8", "int4"])
def test_what_a_token_sees_depends_on_neither_tile_nor_batch(kv_dtype: str, window: Window) -> None:
    cache_ = Cache(kv_dtype, "grouped", (200, 3))
    many = cache_.attend((70, 3), window)
    np.testing.assert_array_equal(cache_.attend((70, 3), window, tokens=2), many)
    np.testing.assert_array_equal(cache_.attend((1, 1), window, split=True), many[[69, 72]])
    np.testing.assert_array_equal(cache_.attend((1, 1), window), many[[69, 72]])


def test_fp8_numbers_are_the_nearest_and_the_even_ones_of_two() -> None:
    cache_ = Cache("fp8", "grouped", (1,))
    ties = np.arange(1, 65, dtype=np.float32).reshape(2, 32) * 2.0**-10  # subnormal ones
    ties[1] = [*np.arange(17, 31) / 16, *np.arange(-31, -17) / 4, 500, -460, 448, 440]
    cache_.x[0, -2:] = ties
    cache_._append()
    np.testing.assert_array_equal(cache_.attend((1,)), cache_.expected((1,)).astype(np.float32))


def test_other_layers_and_slots_are_left_alone() -> None:
    cache_ = Cache("int8", "grouped", (9,))
    pool = cache_.kernels.rows(cache_.pool)
    assert (pool[1 - LAYER] == 0x7B).all()
    words, rest = cache_.how.key_words, PAGE_SIZE * cache_.how.token_bytes
    page = pool[LAYER][cache_.tables[0, 1]].view(np.uint32)
    assert (page[words : PAGE_SIZE * words] == 0x7B7B7B7B).all() and len(page) == rest // 4
