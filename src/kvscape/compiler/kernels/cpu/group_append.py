"""Keys that are rounded together, 16 tokens at a time (KIVI, Liu et al. 2024, arXiv 2402.02750).

A group's codes are written when it is complete. Until then its keys wait, in f16, in the sequence's tail; a query
reads its own group's keys in f16, and those of earlier groups as they are stored.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.pages import TOKENS, Pages
from kvscape.compiler.kernels.cpu.rope_append import rotate_halves
from kvscape.compiler.kernels.cpu.store import int4_code, int4_step, nibbles
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS
from kvscape.config import KEY_GROUP

GROUP = KEY_GROUP


def group_append(pages: Pages, q_heads: int, rotary: int) -> Any:
    """Rotate keys, round the groups that this step completes, keep the rest in the tail.

    Arguments: qkv f32 [n, (q_heads + 2 heads) D], table f32 [n, rotary], positions int32 [n], sequences int32 [s, 4]
    (first token, tokens, tail, the first of its groups in ``own``), page tables int32 [s, w], the pool and the tails
    f16 [layers, tails, heads D 16] (both changed in place), the layer's index in them; ``own`` f32 [groups, heads,
    D 16]: the keys of each group that this step adds to, [dimension][token].
    """
    H, D = pages.heads, pages.dim
    rotate = rotate_halves(D, rotary)
    write_codes = _write_codes(pages)

    @T.inline
    def group(qkv, table, pool, tails, own, tables, i, layer, page_size, first, start, stop, tail, index, at, h):
        # The keys from position ``at`` on: those before ``start`` come from the tail, those before ``stop`` from here.
        with T.sblock("group"):
            T.reads()
            T.writes()
            x = T.sblock_alloc_buffer((D,), "float32")
            for d in T.serial(T.if_then_else(at < start, D * GROUP, 0)):
                own[index, h, d] = T.cast(tails[layer, tail, h * D * GROUP + d], "float32")
            for t in T.serial(T.max(start - at, 0), T.min(stop - at, GROUP)):
                rotate(qkv, table, x, first + at + t - start, (q_heads + h) * D)
                for d in T.serial(D):
                    own[index, h, d * GROUP + t] = T.cast(T.cast(x[d], "float16"), "float32")
            if at + GROUP <= stop:
                write_codes(own, pool, tables, i, layer, page_size, index, at, h)
            else:
                for d in T.serial(D * GROUP):
                    tails[layer, tail, h * D * GROUP + d] = T.cast(own[index, h, d], "float16")

    @T.inline
    def task(qkv, table, positions, sequences, tables, pool, tails, own, layer, page_size, i, h):
        with T.sblock("task"):
            T.reads()
            T.writes()
            first: T.let[T.int64] = T.cast(sequences[i, 0], "int64")
            start: T.let[T.int64] = T.cast(positions[first], "int64")
            stop: T.let[T.int64] = start + T.cast(sequences[i, 1], "int64")
            tail: T.let[T.int64] = T.cast(sequences[i, 2], "int64")
            # In order: the first group reads the tail that the last one writes.
            for g in T.serial((stop - 1) // GROUP - start // GROUP + 1):
                group(qkv, table, pool, tails, own, tables, i, layer, page_size, first, start, stop, tail,
                      T.cast(sequences[i, 3], "int64") + g, (start // GROUP + g) * GROUP, h)  # fmt: skip

    @T.prim_func(s_tir=True)
    def kernel(
        p_qkv: T.handle,
        p_table: T.handle,
        p_positions: T.handle,
        p_sequences: T.handle,
        p_tables: T.handle,
        p_pool: T.handle,
        p_tails: T.handle,
        layer: T.int64,
        p_own: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        s = T.int64()
        width = T.int64()
        layers = T.int64()
        num_pages = T.int64()
        page_bytes = T.int64()
        num_tails = T.int64()
        groups = T.int64()
        qkv = T.match_buffer(p_qkv, (n, (q_heads + 2 * H) * D), "float32")
        table = T.match_buffer(p_table, (n, rotary), "float32")
        positions = T.match_buffer(p_positions, (n,), "int32")
        sequences = T.match_buffer(p_sequences, (s, 4), "int32")
        tables = T.match_buffer(p_tables, (s, width), "int32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        tails = T.match_buffer(p_tails, (layers, num_tails, H * D * GROUP), "float16")
        own = T.match_buffer(p_own, (groups, H, D * GROUP), "float32")
        if n < SERIAL_ROWS:
            for index in T.serial(s * H):
                task(qkv, table, positions, sequences, tables, pool, tails, own, layer, pages.page_size(page_bytes),
                     index // H, index % H)  # fmt: skip
        else:
            for index in T.parallel(s * H):
                task(qkv, table, positions, sequences, tables, pool, tails, own, layer, pages.page_size(page_bytes),
                     index // H, index % H)  # fmt: skip

    return kernel


def _write_codes(pages: Pages) -> Any:
    half = pages.dim // 2

    @T.inline
    def write(own, pool, tables, row, layer, page_size, index, at, h):
        with T.sblock("codes"):
            T.reads()
            T.writes()
            low = T.sblock_alloc_buffer((1,), "float32")
            high = T.sblock_alloc_buffer((1,), "float32")
            minimum = T.sblock_alloc_buffer((pages.dim,), "float16")
            step = T.sblock_alloc_buffer((pages.dim,), "float16")
            first: T.let[T.int64] = T.cast(tables[row, at // page_size], "int64")
            other: T.let[T.int64] = T.cast(tables[row, (at + TOKENS) // page_size], "int64")
            scales: T.let[T.int64] = pages.key_scale(page_size, h, at % page_size)
            minimums: T.let[T.int64] = pages.key_scale(page_size, h, (at + TOKENS) % page_size)
            for d in T.serial(pages.dim):
                low[0] = own[index, h, d * GROUP]
                high[0] = own[index, h, d * GROUP]
                for t in T.serial(GROUP):
                    low[0] = T.min(low[0], own[index, h, d * GROUP + t])
                    high[0] = T.max(high[0], own[index, h, d * GROUP + t])
                minimum[d] = T.cast(low[0], "float16")
                step[d] = int4_step(high[0], minimum[d])
                pool[layer, first, T.ramp(scales + 2 * d, 1, 2)] = T.reinterpret("uint8x2", step[d])
                pool[layer, other, T.ramp(minimums + 2 * d, 1, 2)] = T.reinterpret("uint8x2", minimum[d])
            for d in T.serial(half):
                for t in T.serial(GROUP):
                    token: T.let[T.int64] = at + t
                    page: T.let[T.int64] = T.if_then_else(t < TOKENS, first, other)
                    pool[layer, page, pages.keys(page_size, h, token % page_size) + d * TOKENS + t % TOKENS] = nibbles(
                        int4_code(own[index, h, d * GROUP + t], step[d], minimum[d]),
                        int4_code(own[index, h, (half + d) * GROUP + t], step[half + d], minimum[half + d]),
                    )

    return write
