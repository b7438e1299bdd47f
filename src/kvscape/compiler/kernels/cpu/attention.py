"""Paged causal attention with an online softmax (Milakov and Gimelshein 2018; FlashAttention, arXiv 2205.14135).

A task is a tile of one sequence's consecutive tokens and one key head with all its query heads. Keys are taken in blocks
of 16 from the sequence's first one on, so a query's sums never depend on the tile, the batch or the page size.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.pages import TOKENS, Pages, read, read_scale
from kvscape.compiler.kernels.cpu.vector import Expr, exp, fma, load, maximum, reduce_add, reduce_max, splat

LANES = 8
MAX_TILE_ROWS = 48
_LOWEST = -3.0e38


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, MAX_TILE_ROWS // group)


def _scores(q: Any, keys: Any, token: Expr, at: Expr, first_key: int, D: int, scale: float) -> Expr:
    """q . k / sqrt(D) for 8 keys: four chains of sums, so that additions need not wait for each other."""
    chains: list[Expr] = [splat(T.float32(0), LANES)] * 4
    for d in range(D):
        chains[d % 4] = fma(
            splat(q[token, at + d], LANES), load(keys, d * TOKENS + first_key, lanes=LANES), chains[d % 4], LANES
        )
    return ((chains[0] + chains[1]) + (chains[2] + chains[3])) * splat(T.float32(scale), LANES)


def _visible(first_key: Expr, position: Expr, value: Expr, otherwise: float) -> Expr:
    """``value`` where the lane's key is not behind the query's position."""
    keys = T.ramp(T.cast(first_key, "int32"), 1, LANES)
    return T.Select(keys <= splat(position, LANES), value, splat(T.float32(otherwise), LANES))


def _weighted(p: Any, values: Any, c: Expr, start: Expr, D: int) -> Expr:
    """start + sum over the block's tokens of probability x value, for 8 dimensions."""
    for t in range(TOKENS):
        start = fma(splat(p[t], LANES), load(values, t * D + c * LANES, lanes=LANES), start, LANES)
    return start


def _exp_scalar(x: Expr) -> Expr:
    return T.Shuffle([exp(splat(x, LANES), LANES)], [T.int32(0)])


def paged_attention(pages: Pages, q_heads: int) -> Any:
    """Arguments: q f32 [n, q_heads D], the pool, page tables int32 [s, w], tiles int32 [t, 3] (sequence, first token,
    tokens), positions int32 [n], the layer's index in the pool; y f32 [n, q_heads D].
    """
    H, D = pages.heads, pages.dim
    group = q_heads // H
    max_rows = tile_tokens(group) * group
    scale = D**-0.5

    @T.inline
    def load_block(pool, layer, page, page_size, head, offset, keys, values):  # type: ignore[no-untyped-def]
        for c in T.serial(TOKENS * D // LANES):
            keys[T.ramp(c * LANES, 1, LANES)] = read(
                pages, pool, layer, page, pages.key(page_size, head, offset) + c * LANES, LANES
            )
            values[T.ramp(c * LANES, 1, LANES)] = read(
                pages, pool, layer, page, pages.value(page_size, head, offset) + c * LANES, LANES
            )

    @T.inline
    def load_scales(pool, layer, page, page_size, head, offset, key_scale, value_scale):  # type: ignore[no-untyped-def]
        for t in T.serial(TOKENS):
            if pages.quantized:
                key_scale[t] = read_scale(pool, layer, page, pages.key_scale(page_size, head, offset + t))
                value_scale[t] = read_scale(pool, layer, page, pages.value_scale(page_size, head, offset + t))

    @T.inline
    def attend(q, keys, values, key_scale, value_scale, out, peak, total, token, at, row, first_key, position):  # type: ignore[no-untyped-def]
        with T.sblock("attend"):
            T.reads()
            T.writes()
            p = T.sblock_alloc_buffer((TOKENS,), "float32", scope="local")
            state = T.sblock_alloc_buffer((2,), "float32", scope="local")
            for part in T.unroll(TOKENS // LANES):
                score = _scores(q, keys, token, at, part * LANES, D, scale)
                if pages.quantized:
                    p[T.ramp(part * LANES, 1, LANES)] = _visible(
                        first_key + part * LANES, position, score * load(key_scale, part * LANES, lanes=LANES), _LOWEST
                    )
                else:
                    p[T.ramp(part * LANES, 1, LANES)] = _visible(first_key + part * LANES, position, score, _LOWEST)
            highest = reduce_max(maximum(load(p, 0, lanes=LANES), load(p, LANES, lanes=LANES), LANES), LANES)
            state[0] = T.max(peak[row], highest)
            state[1] = _exp_scalar(peak[row] - state[0])
            for part in T.unroll(TOKENS // LANES):
                p[T.ramp(part * LANES, 1, LANES)] = _visible(
                    first_key + part * LANES,
                    position,
                    exp(load(p, part * LANES, lanes=LANES) - splat(state[0], LANES), LANES),
                    0.0,
                )
            sums = reduce_add(load(p, 0, lanes=LANES) + load(p, LANES, lanes=LANES), LANES)
            total[row] = total[row] * state[1] + sums
            peak[row] = state[0]
            if pages.quantized:
                for part in T.unroll(TOKENS // LANES):
                    p[T.ramp(part * LANES, 1, LANES)] = load(p, part * LANES, lanes=LANES) * load(
                        value_scale, part * LANES, lanes=LANES
                    )
            for c in T.serial(D // LANES):
                out[T.ramp(row * D + c * LANES, 1, LANES)] = _weighted(
                    p, values, c, load(out, row * D + c * LANES, lanes=LANES) * splat(state[1], LANES), D
                )

    @T.prim_func(s_tir=True)
    def kernel(
        p_q: T.handle,
        p_pool: T.handle,
        p_tables: T.handle,
        p_tiles: T.handle,
        p_positions: T.handle,
        layer: T.int64,
        p_y: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        layers = T.int64()
        num_pages = T.int64()
        elements = T.int64()
        s = T.int64()
        width = T.int64()
        num_tiles = T.int64()
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        pool = T.match_buffer(p_pool, (layers, num_pages, elements), pages.pool_dtype)
        tables = T.match_buffer(p_tables, (s, width), "int32")
        tiles = T.match_buffer(p_tiles, (num_tiles, 3), "int32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        y = T.match_buffer(p_y, (n, q_heads * D), "float32")
        for task in T.parallel(num_tiles * H):
            with T.sblock("task"):
                T.reads()
                T.writes()
                keys = T.sblock_alloc_buffer((TOKENS * D,), "float32")
                values = T.sblock_alloc_buffer((TOKENS * D,), "float32")
                key_scale = T.sblock_alloc_buffer((TOKENS,), "float32", scope="local")
                value_scale = T.sblock_alloc_buffer((TOKENS,), "float32", scope="local")
                out = T.sblock_alloc_buffer((max_rows * D,), "float32")
                peak = T.sblock_alloc_buffer((max_rows,), "float32", scope="local")
                total = T.sblock_alloc_buffer((max_rows,), "float32", scope="local")
                head: T.let[T.int64] = task % H
                tile: T.let[T.int64] = task // H
                first: T.let[T.int64] = T.cast(tiles[tile, 1], "int64")
                count: T.let[T.int64] = T.cast(tiles[tile, 2], "int64")
                last: T.let[T.int64] = T.cast(positions[first + count - 1], "int64")
                page_size: T.let[T.int64] = pages.page_size(elements)
                for row in T.serial(count * group):
                    peak[row] = T.float32(_LOWEST)
                    total[row] = T.float32(0)
                    for c in T.serial(D // LANES):
                        out[T.ramp(row * D + c * LANES, 1, LANES)] = splat(T.float32(0), LANES)
                for block in T.serial(last // TOKENS + 1):
                    page: T.let[T.int64] = T.cast(tables[tiles[tile, 0], block * TOKENS // page_size], "int64")
                    offset: T.let[T.int64] = block * TOKENS % page_size
                    load_block(pool, layer, page, page_size, head, offset, keys, values)
                    load_scales(pool, layer, page, page_size, head, offset, key_scale, value_scale)
                    for row in T.serial(count * group):
                        token: T.let[T.int64] = first + row // group
                        if block * TOKENS <= T.cast(positions[token], "int64"):
                            attend(q, keys, values, key_scale, value_scale, out, peak, total, token,
                                   (head * group + row % group) * D, row, block * TOKENS, positions[token])  # fmt: skip
                for row in T.serial(count * group):
                    for c in T.serial(D // LANES):
                        y[first + row // group, T.ramp((head * group + row % group) * D + c * LANES, 1, LANES)] = load(
                            out, row * D + c * LANES, lanes=LANES
                        ) * splat(T.float32(1) / total[row], LANES)

    return kernel
