"""Paged causal attention with an online softmax (Milakov and Gimelshein 2018; FlashAttention, arXiv 2205.14135).

A task is a tile of one sequence's consecutive tokens and one key head with all its query heads. Keys are taken in
spans of 64 from the sequence's first one on, so a query's sums never depend on the tile, the batch or the page size.

With a window a query sees the first ``sinks`` tokens and the last ``recent`` ones, itself included (StreamingLLM, Xiao
et al. 2023, arXiv 2309.17453). Positions are those inside the cache: recent keys are as far away as in the text, and to
meet the sinks the query comes a second time, rotated as the last token of a full window. Spans between are not read.

Where keys are rounded in groups of a block's size (group_append.py), a query meets those of its own group unrounded.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.hadamard import hadamard
from kvscape.compiler.kernels.cpu.load_block import LANES, load_keys, load_values
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.compiler.kernels.cpu.vector import Expr, exp, fma, load, maximum, prefetch, reduce_add, reduce_max, splat

TOKENS = 16  # keys of a block
PARTS = TOKENS // LANES
BLOCKS = 4  # blocks of a span
SPAN = BLOCKS * TOKENS
AHEAD = SPAN  # keys that are asked for before they are read
LINE_BYTES = 64
MAX_TILE_ROWS = 48
_LOWEST = -3.0e38


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, MAX_TILE_ROWS // group)


def heads_together(group: int) -> int:
    """Query heads of one token that share each load of a key or value: the largest divisor of ``group`` up to 4."""
    return max(count for count in range(1, 5) if group % count == 0)


def _keys(first_key: Expr) -> Expr:
    return T.ramp(T.cast(first_key, "int32"), 1, LANES)


def _visible(first_key: Expr, position: Expr, window: Any, value: Expr, otherwise: float) -> Expr:
    """``value`` where the lane's key is a sink or recent, and not behind the query's position."""
    keys, hidden = _keys(first_key), splat(T.float32(otherwise), LANES)
    recent = T.Select(keys > splat(position - window[1], LANES), value, hidden)
    seen = T.Select(keys < splat(window[0], LANES), value, recent)
    return T.Select(keys <= splat(position, LANES), seen, hidden)


def _sum_chains(acc: Any, index: Expr, chains: int, stride: int) -> Expr:
    total = load(acc, index * LANES, lanes=LANES)
    for chain in range(1, chains):
        total = total + load(acc, (chain * stride + index) * LANES, lanes=LANES)
    return total


def _exp_scalar(x: Expr) -> Expr:
    return T.Shuffle([exp(splat(x, LANES), LANES)], [T.int32(0)])


def paged_attention(pages: Pages, q_heads: int) -> Any:
    """Arguments: q f32 [n, q_heads D], the same for sinks, the pool, page tables int32 [s, w], tiles int32 [t, 4]
    (sequence, first token, tokens, where in ``own`` the sequence's group 0 would be), positions int32 [n], window
    int32 [2] (sinks, recent), where keys have groups ``own`` f32 [groups, heads, D 16], the layer's index in the pool;
    y f32 [n, q_heads D].
    """
    H, D = pages.heads, pages.dim
    group = q_heads // H
    max_rows = tile_tokens(group) * group
    scale = D**-0.5
    count = heads_together(group)
    chains = 2 if count > 2 else 4
    wide = 4 if count < 3 and D % (4 * LANES) == 0 else 2
    grouped = pages.precision.key_group > 1
    rotated = pages.precision.value == "int4"
    load_key_block, load_value, rotate = load_keys(pages), load_values(pages), hadamard(D)

    @T.inline
    def load_block(pool, tables, sequence, width, layer, page_size, head, first_key, keys, values, block):
        with T.sblock("block"):
            T.reads()
            T.writes()
            # The last block's second half may have no page: what is read instead is hidden.
            other_at: T.let[T.int64] = T.min((first_key + LANES) // page_size, width - 1)
            page: T.let[T.int64] = T.cast(tables[sequence, first_key // page_size], "int64")
            other: T.let[T.int64] = T.cast(tables[sequence, other_at], "int64")
            offset: T.let[T.int64] = first_key % page_size
            other_offset: T.let[T.int64] = (first_key + LANES) % page_size
            load_key_block(pool, layer, page, other, page_size, head, offset, other_offset, keys, block * TOKENS * D)
            for t in T.serial(LANES):
                load_value(pool, layer, page, page_size, head, offset + t, block * TOKENS + t, values)
            for t in T.serial(LANES):
                load_value(pool, layer, other, page_size, head, other_offset + t, block * TOKENS + LANES + t, values)

    @T.inline
    def lines(pool, layer, page, start, token_bytes):
        for line in T.serial(-(-TOKENS * token_bytes // LINE_BYTES)):
            T.evaluate(prefetch(pool, layer, page, start + line * LINE_BYTES))

    @T.inline
    def fetch_block(pool, tables, sequence, width, layer, page_size, head, first_key):
        # Pages lie apart, in short runs that no processor foresees.
        with T.sblock("fetch"):
            T.reads()
            T.writes()
            at: T.let[T.int64] = T.min(first_key // page_size, width - 1)
            page: T.let[T.int64] = T.cast(tables[sequence, at], "int64")
            offset: T.let[T.int64] = first_key % page_size
            lines(pool, layer, page, pages.keys(page_size, head, offset), pages.key_bytes)
            lines(pool, layer, page, pages.key_scale(page_size, head, offset), pages.key_scale_bytes)
            lines(pool, layer, page, pages.value(page_size, head, offset), pages.value_bytes)
            lines(pool, layer, page, pages.value_scale(page_size, head, offset), pages.value_scale_bytes)

    @T.inline
    def score(q, keys, first, s, block, token, at):
        # Several chains of sums for each head and 8 keys: an addition need not wait for the one before it.
        with T.sblock("score"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((chains * count * TOKENS,), "float32", scope="local")
            for i in T.unroll(chains * count * PARTS):
                acc[T.ramp(i * LANES, 1, LANES)] = splat(T.float32(0), LANES)
            for d in T.serial(D // chains):
                for i in T.unroll(chains * count * PARTS):
                    chain, m, part = i // (count * PARTS), i // PARTS % count, i % PARTS
                    acc[T.ramp(i * LANES, 1, LANES)] = fma(
                        splat(q[token, at + m * D + d * chains + chain], LANES),
                        load(keys, first + (d * chains + chain) * TOKENS + part * LANES, lanes=LANES),
                        load(acc, i * LANES, lanes=LANES),
                        LANES,
                    )
            for i in T.unroll(count * PARTS):
                s[T.ramp(i // PARTS * SPAN + block * TOKENS + i % PARTS * LANES, 1, LANES)] = _sum_chains(
                    acc, i, chains, count * PARTS
                ) * splat(T.float32(scale), LANES)

    @T.inline
    def soften(s, alpha, peak, total, m, row, blocks, first_key, position, window, masked):
        # Scores to probabilities against the highest score so far, which may rise: alpha rescales what was summed.
        with T.sblock("soften"):
            T.reads()
            T.writes()
            highest = T.sblock_alloc_buffer((1,), "float32", scope="local")
            best = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            mass = T.sblock_alloc_buffer((LANES,), "float32", scope="local")
            best[T.ramp(0, 1, LANES)] = splat(T.float32(_LOWEST), LANES)
            mass[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            for part in T.serial(blocks * PARTS):
                at: T.let[T.int64] = m * SPAN + part * LANES
                if masked:
                    s[T.ramp(at, 1, LANES)] = _visible(
                        first_key + part * LANES, position, window, load(s, at, lanes=LANES), _LOWEST
                    )
                best[T.ramp(0, 1, LANES)] = maximum(load(best, 0, lanes=LANES), load(s, at, lanes=LANES), LANES)
            highest[0] = T.max(peak[row], reduce_max(load(best, 0, lanes=LANES), LANES))
            alpha[m] = _exp_scalar(peak[row] - highest[0])
            peak[row] = highest[0]
            for part in T.serial(blocks * PARTS):
                at: T.let[T.int64] = m * SPAN + part * LANES
                s[T.ramp(at, 1, LANES)] = exp(load(s, at, lanes=LANES) - splat(highest[0], LANES), LANES)
                if masked:
                    s[T.ramp(at, 1, LANES)] = _visible(
                        first_key + part * LANES, position, window, load(s, at, lanes=LANES), 0.0
                    )
                mass[T.ramp(0, 1, LANES)] = load(mass, 0, lanes=LANES) + load(s, at, lanes=LANES)
            total[row] = total[row] * alpha[m] + reduce_add(load(mass, 0, lanes=LANES), LANES)

    @T.inline
    def add_values(s, values, out, alpha, row, tokens):
        for c in T.serial(D // LANES // wide):
            with T.sblock("add_values"):
                T.reads()
                T.writes()
                acc = T.sblock_alloc_buffer((count * wide * LANES,), "float32", scope="local")
                for i in T.unroll(count * wide):
                    acc[T.ramp(i * LANES, 1, LANES)] = load(
                        out, (row + i // wide) * D + (c * wide + i % wide) * LANES, lanes=LANES
                    ) * splat(alpha[i // wide], LANES)
                for t in T.serial(tokens):
                    for i in T.unroll(count * wide):
                        acc[T.ramp(i * LANES, 1, LANES)] = fma(
                            splat(s[i // wide * SPAN + t], LANES),
                            load(values, t * D + (c * wide + i % wide) * LANES, lanes=LANES),
                            load(acc, i * LANES, lanes=LANES),
                            LANES,
                        )
                for i in T.unroll(count * wide):
                    out[T.ramp((row + i // wide) * D + (c * wide + i % wide) * LANES, 1, LANES)] = load(
                        acc, i * LANES, lanes=LANES
                    )

    @T.inline
    def attend(q, sink_q, keys, values, out, peak, total, token, at, row, first_key, blocks, position, window):
        with T.sblock("attend"):
            T.reads()
            T.writes()
            s = T.sblock_alloc_buffer((count * SPAN,), "float32", scope="local")
            alpha = T.sblock_alloc_buffer((count,), "float32", scope="local")
            for block in T.serial(blocks):
                own_keys: T.let[T.bool] = grouped and first_key // TOKENS + block == T.cast(position, "int64") // TOKENS
                score(q, keys, T.if_then_else(own_keys, SPAN * D, 0) + block * TOKENS * D, s, block, token, at)
                if first_key + block * TOKENS < T.cast(window[0], "int64"):
                    sink_s = T.sblock_alloc_buffer((count * SPAN,), "float32", scope="local")
                    score(
                        sink_q,
                        keys,
                        T.if_then_else(own_keys, SPAN * D, 0) + block * TOKENS * D,
                        sink_s,
                        block,
                        token,
                        at,
                    )
                    for i in T.unroll(count * PARTS):
                        lane: T.let[T.int64] = i // PARTS * SPAN + block * TOKENS + i % PARTS * LANES
                        s[T.ramp(lane, 1, LANES)] = T.Select(
                            _keys(first_key + block * TOKENS + i % PARTS * LANES) < splat(window[0], LANES),
                            load(sink_s, lane, lanes=LANES),
                            load(s, lane, lanes=LANES),
                        )
            last: T.let[T.int64] = first_key + blocks * TOKENS - 1
            if last > T.cast(position, "int64") or first_key <= T.cast(position - window[1], "int64"):
                for m in T.unroll(count):
                    soften(s, alpha, peak, total, m, row + m, blocks, first_key, position, window, True)
            else:
                for m in T.unroll(count):
                    soften(s, alpha, peak, total, m, row + m, blocks, first_key, position, window, False)
            add_values(s, values, out, alpha, row, blocks * TOKENS)

    @T.inline
    def tile(q, sink_q, pool, tables, tiles, positions, window, own, layer, y, page_size, width, index, head):
        with T.sblock("tile"):
            T.reads()
            T.writes()
            # Where keys have groups, those of the tile's own blocks lie behind the rounded ones.
            keys = T.sblock_alloc_buffer(((1 + grouped) * SPAN * D,), "float32")
            values = T.sblock_alloc_buffer((SPAN * D,), "float32")
            out = T.sblock_alloc_buffer((max_rows * D,), "float32")
            peak = T.sblock_alloc_buffer((max_rows,), "float32", scope="local")
            total = T.sblock_alloc_buffer((max_rows,), "float32", scope="local")
            sequence: T.let[T.int64] = T.cast(tiles[index, 0], "int64")
            first: T.let[T.int64] = T.cast(tiles[index, 1], "int64")
            tokens: T.let[T.int64] = T.cast(tiles[index, 2], "int64")
            last: T.let[T.int64] = T.cast(positions[first + tokens - 1], "int64")
            for row in T.serial(tokens * group):
                peak[row] = T.float32(_LOWEST)
                total[row] = T.float32(0)
                for c in T.serial(D // LANES):
                    out[T.ramp(row * D + c * LANES, 1, LANES)] = splat(T.float32(0), LANES)
            sink_spans: T.let[T.int64] = (T.cast(window[0], "int64") + SPAN - 1) // SPAN
            oldest: T.let[T.int64] = T.cast(T.max(positions[first] - window[1] + 1, 0), "int64")
            gap: T.let[T.int64] = T.max(oldest // SPAN - sink_spans, 0)
            for step in T.serial(last // SPAN + 1 - gap):
                span: T.let[T.int64] = T.if_then_else(step < sink_spans, step, step + gap)
                blocks: T.let[T.int64] = T.min(last // TOKENS - span * BLOCKS + 1, BLOCKS)
                for block in T.serial(blocks):
                    fetch_block(pool, tables, sequence, width, layer, page_size, head,
                                (span * BLOCKS + block) * TOKENS + AHEAD)  # fmt: skip
                    load_block(pool, tables, sequence, width, layer, page_size, head,
                               (span * BLOCKS + block) * TOKENS, keys, values, block)  # fmt: skip
                    if grouped:  # noqa: SIM102 - this one is Python's
                        if (span * BLOCKS + block + 1) * TOKENS > T.cast(positions[first], "int64"):
                            for i in T.serial(TOKENS * D):
                                keys[SPAN * D + block * TOKENS * D + i] = own[
                                    T.cast(tiles[index, 3], "int64") + span * BLOCKS + block, head, i
                                ]
                for rows in T.serial(tokens * (group // count)):
                    head_row: T.let[T.int64] = rows * count
                    token: T.let[T.int64] = first + head_row // group
                    position: T.let[T.int64] = T.cast(positions[token], "int64")
                    recent: T.let[T.int64] = position - T.cast(window[1], "int64")
                    if span * SPAN <= position and (span < sink_spans or span * SPAN + SPAN - 1 > recent):
                        attend(q, sink_q, keys, values, out, peak, total, token,
                               (head * group + head_row % group) * D, head_row,
                               span * SPAN, blocks, positions[token], window)  # fmt: skip
            for row in T.serial(tokens * group):
                if rotated:
                    rotate(out, row * D)
                for c in T.serial(D // LANES):
                    y[first + row // group, T.ramp((head * group + row % group) * D + c * LANES, 1, LANES)] = load(
                        out, row * D + c * LANES, lanes=LANES
                    ) * splat(T.float32(1) / total[row], LANES)

    return _kernel_with_groups(pages, q_heads, tile) if grouped else _kernel(pages, q_heads, tile)


def _kernel(pages: Pages, q_heads: int, tile: Any) -> Any:
    H, D = pages.heads, pages.dim

    @T.prim_func(s_tir=True)
    def kernel(
        p_q: T.handle,
        p_sink_q: T.handle,
        p_pool: T.handle,
        p_tables: T.handle,
        p_tiles: T.handle,
        p_positions: T.handle,
        p_window: T.handle,
        layer: T.int64,
        p_y: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        layers = T.int64()
        num_pages = T.int64()
        page_bytes = T.int64()
        s = T.int64()
        width = T.int64()
        num_tiles = T.int64()
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        tables = T.match_buffer(p_tables, (s, width), "int32")
        tiles = T.match_buffer(p_tiles, (num_tiles, 4), "int32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        window = T.match_buffer(p_window, (2,), "int32")
        y = T.match_buffer(p_y, (n, q_heads * D), "float32")
        for task in T.parallel(num_tiles * H):
            tile(q, sink_q, pool, tables, tiles, positions, window, q, layer, y, pages.page_size(page_bytes), width,
                 task // H, task % H)  # fmt: skip

    return kernel


def _kernel_with_groups(pages: Pages, q_heads: int, tile: Any) -> Any:
    H, D = pages.heads, pages.dim

    @T.prim_func(s_tir=True)
    def kernel(
        p_q: T.handle,
        p_sink_q: T.handle,
        p_pool: T.handle,
        p_tables: T.handle,
        p_tiles: T.handle,
        p_positions: T.handle,
        p_window: T.handle,
        p_own: T.handle,
        layer: T.int64,
        p_y: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        layers = T.int64()
        num_pages = T.int64()
        page_bytes = T.int64()
        s = T.int64()
        width = T.int64()
        num_tiles = T.int64()
        groups = T.int64()
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        tables = T.match_buffer(p_tables, (s, width), "int32")
        tiles = T.match_buffer(p_tiles, (num_tiles, 4), "int32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        window = T.match_buffer(p_window, (2,), "int32")
        own = T.match_buffer(p_own, (groups, H, D * TOKENS), "float32")
        y = T.match_buffer(p_y, (n, q_heads * D), "float32")
        for task in T.parallel(num_tiles * H):
            tile(q, sink_q, pool, tables, tiles, positions, window, own, layer, y, pages.page_size(page_bytes), width,
                 task // H, task % H)  # fmt: skip

    return kernel
