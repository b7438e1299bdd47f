"""Paged causal attention with an online softmax (Milakov and Gimelshein 2018; FlashAttention, arXiv 2205.14135).

A task is a tile of one sequence's consecutive tokens and one key head with all its query heads. Keys are taken in
spans of 64 from the sequence's first one on, and the sums of each range of 256 are joined in order: a query's sums
never depend on the tile, the batch or the page size. Where a step has few tiles, their ranges are tasks of their own.

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
from kvscape.compiler.kernels.cpu.span import BLOCKS, LOWEST, SPAN, TOKENS, attend_span, exp_scalar, heads_together
from kvscape.compiler.kernels.cpu.vector import fma, load, prefetch, splat

RANGE = 256  # keys whose sums may be made by themselves
SPANS = RANGE // SPAN
AHEAD = SPAN  # keys that are asked for before they are read
LINE_BYTES = 64
MAX_TILE_ROWS = 48


def tile_tokens(group: int) -> int:
    """Tokens of a full tile, when ``group`` query heads share a key head."""
    return max(1, MAX_TILE_ROWS // group)


def paged_attention(pages: Pages, q_heads: int, scale: float, soft_cap: float = 0.0) -> Any:
    """Scores are products times ``scale``, bent below ``soft_cap`` where that is not 0 (Gemma 2, arXiv 2408.00118).

    Arguments: q f32 [n, q_heads D], the same for sinks, the pool, page tables int32 [s, w], tiles int32 [t, 5]
    (sequence, first token, tokens, where in ``own`` the sequence's group 0 would be, range), pieces int32 [n + 1] or
    [0], positions int32 [n], window int32 [2] (sinks, recent), where keys have groups ``own`` f32 [groups, heads,
    D 16], the layer's index in the pool; y f32 [n, q_heads D].

    With ``pieces`` each tile is one token's range, and those of token i are pieces[i] to pieces[i + 1].
    """
    H, D = pages.heads, pages.dim
    group = q_heads // H
    max_rows = tile_tokens(group) * group
    count = heads_together(group)
    grouped = pages.precision.key_group > 1
    rotated = pages.precision.value == "int4"
    stride = group * (D + 2)  # a piece: sums, highest scores, sums of weights
    load_key_block, load_value, rotate = load_keys(pages), load_values(pages), hadamard(D)
    attend = attend_span(pages, group, scale, soft_cap)

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
    def clear(out, peak, total, rows):
        for row in T.serial(rows):
            peak[row] = T.float32(LOWEST)
            total[row] = T.float32(0)
            for c in T.serial(D // LANES):
                out[T.ramp(row * D + c * LANES, 1, LANES)] = splat(T.float32(0), LANES)

    @T.inline
    def attend_range(q, sink_q, pool, tables, tiles, positions, window, own, layer, page_size, width, index, head,
                     range_, keys, values, out, peak, total):  # fmt: skip
        with T.sblock("range"):
            T.reads()
            T.writes()
            sequence: T.let[T.int64] = T.cast(tiles[index, 0], "int64")
            first: T.let[T.int64] = T.cast(tiles[index, 1], "int64")
            tokens: T.let[T.int64] = T.cast(tiles[index, 2], "int64")
            last: T.let[T.int64] = T.cast(positions[first + tokens - 1], "int64")
            sink_spans: T.let[T.int64] = (T.cast(window[0], "int64") + SPAN - 1) // SPAN
            oldest: T.let[T.int64] = T.cast(T.max(positions[first] - window[1] + 1, 0), "int64")
            clear(out, peak, total, tokens * group)
            for step in T.serial(T.min(last // SPAN + 1 - range_ * SPANS, SPANS)):
                span: T.let[T.int64] = range_ * SPANS + step
                blocks: T.let[T.int64] = T.min(last // TOKENS - span * BLOCKS + 1, BLOCKS)
                if span < sink_spans or span >= oldest // SPAN:
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

    @T.inline
    def join(joined, highest, mass, out, peak, total, rows):
        # What a range found joins what those before it did; a range that sees nothing changes nothing.
        for row in T.serial(rows):
            with T.sblock("join"):
                T.reads()
                T.writes()
                old = T.sblock_alloc_buffer((1,), "float32")
                new = T.sblock_alloc_buffer((1,), "float32")
                old[0] = exp_scalar(highest[row] - T.max(highest[row], peak[row]))
                new[0] = exp_scalar(peak[row] - T.max(highest[row], peak[row]))
                highest[row] = T.max(highest[row], peak[row])
                mass[row] = fma(mass[row], old[0], total[row] * new[0], 1)
                for c in T.serial(D // LANES):
                    joined[T.ramp(row * D + c * LANES, 1, LANES)] = fma(
                        load(joined, row * D + c * LANES, lanes=LANES),
                        splat(old[0], LANES),
                        load(out, row * D + c * LANES, lanes=LANES) * splat(new[0], LANES),
                        LANES,
                    )

    @T.inline
    def finish(joined, mass, y, first, rows, head):
        for row in T.serial(rows):
            if rotated:
                rotate(joined, row * D)
            for c in T.serial(D // LANES):
                y[first + row // group, T.ramp((head * group + row % group) * D + c * LANES, 1, LANES)] = load(
                    joined, row * D + c * LANES, lanes=LANES
                ) * splat(T.float32(1) / mass[row], LANES)

    @T.inline
    def keep(found, at, out, peak, total):
        for i in T.serial(group * D):
            found[at + i] = out[i]
        for row in T.serial(group):
            found[at + group * D + row] = peak[row]
            found[at + group * (D + 1) + row] = total[row]

    @T.inline
    def tile(q, sink_q, pool, tables, tiles, positions, window, own, layer, y, found, split, page_size, width, index,
             head):  # fmt: skip
        with T.sblock("tile"):
            T.reads()
            T.writes()
            # Where keys have groups, those of the tile's own blocks lie behind the rounded ones.
            keys = T.sblock_alloc_buffer(((1 + grouped) * SPAN * D,), "float32")
            values = T.sblock_alloc_buffer((SPAN * D,), "float32")
            out = T.sblock_alloc_buffer((max_rows * D,), "float32")
            peak = T.sblock_alloc_buffer((max_rows,), "float32")
            total = T.sblock_alloc_buffer((max_rows,), "float32")
            joined = T.sblock_alloc_buffer((max_rows * D,), "float32")
            highest = T.sblock_alloc_buffer((max_rows,), "float32")
            mass = T.sblock_alloc_buffer((max_rows,), "float32")
            first: T.let[T.int64] = T.cast(tiles[index, 1], "int64")
            rows: T.let[T.int64] = T.cast(tiles[index, 2], "int64") * group
            last: T.let[T.int64] = T.cast(positions[first + tiles[index, 2] - 1], "int64")
            sink_ranges: T.let[T.int64] = (T.cast(window[0], "int64") + RANGE - 1) // RANGE
            oldest: T.let[T.int64] = T.cast(T.max(positions[first] - window[1] + 1, 0), "int64")
            gap: T.let[T.int64] = T.max(oldest // RANGE - sink_ranges, 0)
            clear(joined, highest, mass, rows)
            for step in T.serial(T.if_then_else(split, 1, last // RANGE + 1 - gap)):
                seen: T.let[T.int64] = T.if_then_else(step < sink_ranges, step, step + gap)
                range_: T.let[T.int64] = T.if_then_else(split, T.cast(tiles[index, 4], "int64"), seen)
                attend_range(q, sink_q, pool, tables, tiles, positions, window, own, layer, page_size, width, index,
                             head, range_, keys, values, out, peak, total)  # fmt: skip
                join(joined, highest, mass, out, peak, total, rows)
            if split:
                keep(found, (index * H + head) * stride, joined, highest, mass)
            else:
                finish(joined, mass, y, first, rows, head)

    @T.inline
    def join_pieces(pieces, found, y, token, head):
        with T.sblock("pieces"):
            T.reads()
            T.writes()
            out = T.sblock_alloc_buffer((group * D,), "float32")
            peak = T.sblock_alloc_buffer((group,), "float32")
            total = T.sblock_alloc_buffer((group,), "float32")
            joined = T.sblock_alloc_buffer((group * D,), "float32")
            highest = T.sblock_alloc_buffer((group,), "float32")
            mass = T.sblock_alloc_buffer((group,), "float32")
            clear(joined, highest, mass, T.int64(group))
            for index in T.serial(T.cast(pieces[token], "int64"), T.cast(pieces[token + 1], "int64")):
                at: T.let[T.int64] = (index * H + head) * stride
                for i in T.serial(group * D):
                    out[i] = found[at + i]
                for row in T.serial(group):
                    peak[row] = found[at + group * D + row]
                    total[row] = found[at + group * (D + 1) + row]
                join(joined, highest, mass, out, peak, total, T.int64(group))
            finish(joined, mass, y, token, T.int64(group), head)

    @T.inline
    def run(q, sink_q, pool, tables, tiles, pieces, positions, window, own, layer, y, page_size, width, num_tiles, n,
            num_pieces):  # fmt: skip
        with T.sblock("run"):
            T.reads()
            T.writes()
            found = T.sblock_alloc_buffer((T.min(num_pieces, 1) * num_tiles * H * stride,), "float32")
            for task in T.parallel(num_tiles * H):
                tile(q, sink_q, pool, tables, tiles, positions, window, own, layer, y, found, num_pieces > 0,
                     page_size, width, task // H, task % H)  # fmt: skip
            if num_pieces > 0:
                for task in T.serial(n * H):
                    join_pieces(pieces, found, y, task // H, task % H)

    return _kernel_with_groups(pages, q_heads, run) if grouped else _kernel(pages, q_heads, run)


def _kernel(pages: Pages, q_heads: int, run: Any) -> Any:
    D = pages.dim

    @T.prim_func(s_tir=True)
    def kernel(
        p_q: T.handle,
        p_sink_q: T.handle,
        p_pool: T.handle,
        p_tables: T.handle,
        p_tiles: T.handle,
        p_pieces: T.handle,
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
        num_pieces = T.int64()
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        tables = T.match_buffer(p_tables, (s, width), "int32")
        tiles = T.match_buffer(p_tiles, (num_tiles, 5), "int32")
        pieces = T.match_buffer(p_pieces, (num_pieces,), "int32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        window = T.match_buffer(p_window, (2,), "int32")
        y = T.match_buffer(p_y, (n, q_heads * D), "float32")
        run(q, sink_q, pool, tables, tiles, pieces, positions, window, q, layer, y,
            pages.page_size(page_bytes), width, num_tiles, n, num_pieces)  # fmt: skip

    return kernel


def _kernel_with_groups(pages: Pages, q_heads: int, run: Any) -> Any:
    H, D = pages.heads, pages.dim

    @T.prim_func(s_tir=True)
    def kernel(
        p_q: T.handle,
        p_sink_q: T.handle,
        p_pool: T.handle,
        p_tables: T.handle,
        p_tiles: T.handle,
        p_pieces: T.handle,
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
        num_pieces = T.int64()
        groups = T.int64()
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        tables = T.match_buffer(p_tables, (s, width), "int32")
        tiles = T.match_buffer(p_tiles, (num_tiles, 5), "int32")
        pieces = T.match_buffer(p_pieces, (num_pieces,), "int32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        window = T.match_buffer(p_window, (2,), "int32")
        own = T.match_buffer(p_own, (groups, H, D * TOKENS), "float32")
        y = T.match_buffer(p_y, (n, q_heads * D), "float32")
        run(q, sink_q, pool, tables, tiles, pieces, positions, window, own, layer, y,
            pages.page_size(page_bytes), width, num_tiles, n, num_pieces)  # fmt: skip

    return kernel
