"""Rotary positions (Su et al. 2021, arXiv 2104.09864), and the step's keys and values written to their pages."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.hadamard import hadamard
from kvscape.compiler.kernels.cpu.pages import TOKENS, Pages
from kvscape.compiler.kernels.cpu.store import store_token
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, fma


def rope_table(D: int, factor: float = 1.0) -> Any:
    """Arguments: positions int32 [n], inverse frequencies f32 [D/2]; table f32 [n, D]: cosines, then sines.

    Both are multiplied by ``factor``, in f32.
    """

    @T.prim_func(s_tir=True)
    def kernel(p_positions: T.handle, p_frequency: T.handle, p_table: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        positions = T.match_buffer(p_positions, (n,), "int32")
        frequency = T.match_buffer(p_frequency, (D // 2,), "float32")
        table = T.match_buffer(p_table, (n, D), "float32")
        for i, d in T.grid(n, D // 2):
            with T.sblock("angle"):
                v_i, v_d = T.axis.remap("SS", [i, d])
                T.reads(positions[v_i], frequency[v_d])
                T.writes(table[v_i, 0:D])
                # In f64: far past the training context an f32 angle would be off by a thousandth.
                angle = T.cast(positions[v_i], "float64") * T.cast(frequency[v_d], "float64")
                table[v_i, v_d] = T.cast(T.cos(angle), "float32") * T.float32(factor)
                table[v_i, D // 2 + v_d] = T.cast(T.sin(angle), "float32") * T.float32(factor)

    return kernel


def rope_frequencies(D: int, length: int) -> Any:
    """Arguments: inverse frequencies f32 [D/2] for up to ``length`` tokens, and for more, seen int32 [1]: the tokens
    that a query may see; those that hold for so many."""

    @T.prim_func(s_tir=True)
    def kernel(p_short: T.handle, p_long: T.handle, p_seen: T.handle, p_frequency: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        short = T.match_buffer(p_short, (D // 2,), "float32")
        long = T.match_buffer(p_long, (D // 2,), "float32")
        seen = T.match_buffer(p_seen, (1,), "int32")
        frequency = T.match_buffer(p_frequency, (D // 2,), "float32")
        for d in T.serial(D // 2):
            with T.sblock("choose"):
                v_d = T.axis.remap("S", [d])
                T.reads(short[v_d], long[v_d], seen[0])
                T.writes(frequency[v_d])
                frequency[v_d] = T.Select(seen[0] > length, long[v_d], short[v_d])

    return kernel


def rotate_halves(D: int, rotary: int) -> Any:
    """A piece for kernels: ``rotate(qkv, table, out, i, source)`` copies row i's ``D`` numbers from ``source`` on,
    the first ``rotary`` of them turned."""
    half = rotary // 2

    @T.inline
    def rotate(qkv, table, out, i, source):
        for d in T.serial(half):
            # Left to LLVM, either product might be the one that is not rounded, in each copy of the loop another.
            out[d] = fma(
                qkv[i, source + d], table[i, d], qkv[i, source + half + d] * T.float32(-1) * table[i, half + d], 1
            )
            out[half + d] = fma(qkv[i, source + d], table[i, half + d], qkv[i, source + half + d] * table[i, d], 1)
        if rotary < D:
            for d in T.serial(D - rotary):
                out[rotary + d] = qkv[i, source + rotary + d]

    return rotate


def rope_append(pages: Pages, q_heads: int, rotary: int) -> Any:
    """Rotate queries and keys by halves, append values and, unless they are rounded in groups, keys.

    Of each head the first ``rotary`` dimensions are turned.

    int8 keys, and so all queries, are also multiplied by a Hadamard matrix, which changes no product of two of them.
    Arguments: qkv f32 [n, (q_heads + 2 heads) D], table f32 [n, rotary], the same for the queries that meet attention
    sinks, slots int32 [n] (page x page size + offset), the pool (changed in place), the layer's index in it; queries
    f32 [n, q_heads D] rotated by the first table, and by the second.
    """
    H, D = pages.heads, pages.dim
    grouped = pages.precision.key_group > 1
    rotate = rotate_halves(D, rotary)
    store_key = store_token("f32" if grouped else pages.precision.key, D, TOKENS)
    spread, turn = pages.precision.key == "int8", hadamard(D)
    store_value = store_token(pages.precision.value, D, 1)
    width = pages.key_bytes // D

    @T.inline
    def token(qkv, table, sink_table, slots, pool, q, sink_q, layer, page_size, i):
        with T.sblock("token"):
            T.reads()
            T.writes()
            x = T.sblock_alloc_buffer((D,), "float32")
            for h in T.serial(q_heads):
                rotate(qkv, table, x, i, h * D)
                if spread:
                    turn(x, T.int64(0))
                for d in T.serial(D):
                    q[i, h * D + d] = x[d]
                rotate(qkv, sink_table, x, i, h * D)
                if spread:
                    turn(x, T.int64(0))
                for d in T.serial(D):
                    sink_q[i, h * D + d] = x[d]
            for h in T.serial(H):
                page: T.let[T.int64] = T.cast(slots[i], "int64") // page_size
                offset: T.let[T.int64] = T.cast(slots[i], "int64") % page_size
                if not grouped:
                    rotate(qkv, table, x, i, (q_heads + h) * D)
                    if spread:
                        turn(x, T.int64(0))
                    store_key(pool, layer, page, x, pages.keys(page_size, h, offset) + offset % TOKENS * width,
                              pages.key_scale(page_size, h, offset))  # fmt: skip
                for d in T.serial(D):
                    x[d] = qkv[i, (q_heads + H + h) * D + d]
                store_value(pool, layer, page, x, pages.value(page_size, h, offset),
                            pages.value_scale(page_size, h, offset))  # fmt: skip

    @T.prim_func(s_tir=True)
    def kernel(
        p_qkv: T.handle,
        p_table: T.handle,
        p_sink_table: T.handle,
        p_slots: T.handle,
        p_pool: T.handle,
        layer: T.int64,
        p_q: T.handle,
        p_sink_q: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        layers = T.int64()
        num_pages = T.int64()
        page_bytes = T.int64()
        qkv = T.match_buffer(p_qkv, (n, (q_heads + 2 * H) * D), "float32")
        table = T.match_buffer(p_table, (n, rotary), "float32")
        sink_table = T.match_buffer(p_sink_table, (n, rotary), "float32")
        slots = T.match_buffer(p_slots, (n,), "int32")
        pool = T.match_buffer(p_pool, (layers, num_pages, page_bytes), "uint8")
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                token(qkv, table, sink_table, slots, pool, q, sink_q, layer, pages.page_size(page_bytes), i)
        else:
            for i in T.parallel(n):
                token(qkv, table, sink_table, slots, pool, q, sink_q, layer, pages.page_size(page_bytes), i)

    return kernel
