"""Rotary positions (Su et al. 2021, arXiv 2104.09864), and the step's keys and values written to their pages."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.pages import TOKENS, Pages
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS


def rope_table(D: int) -> Any:
    """Arguments: positions int32 [n], inverse frequencies f32 [D/2]; table f32 [n, D]: cosines, then sines."""

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
                table[v_i, v_d] = T.cast(T.cos(angle), "float32")
                table[v_i, D // 2 + v_d] = T.cast(T.sin(angle), "float32")

    return kernel


def rope_append(pages: Pages, q_heads: int) -> Any:
    """Rotate queries and keys by halves, append keys and values.

    Arguments: qkv f32 [n, (q_heads + 2 heads) D], table f32 [n, D], the same for the queries that meet attention sinks,
    slots int32 [n] (page x page size + offset), the pool (changed in place), the layer's index in it; queries
    f32 [n, q_heads D] rotated by the first table, and by the second.
    """
    H, D = pages.heads, pages.dim
    half = D // 2
    store = _store_codes(pages) if pages.quantized else _store_floats(pages)

    @T.inline
    def rotate(qkv, table, out, i, source, target):
        for d in T.serial(half):
            out[target + d] = qkv[i, source + d] * table[i, d] - qkv[i, source + half + d] * table[i, half + d]
            out[target + half + d] = qkv[i, source + d] * table[i, half + d] + qkv[i, source + half + d] * table[i, d]

    @T.inline
    def token(qkv, table, sink_table, slots, pool, q, sink_q, layer, page_size, i):
        with T.sblock("token"):
            T.reads()
            T.writes()
            rotated = T.sblock_alloc_buffer((D,), "float32", scope="local")
            for h in T.serial(q_heads):
                rotate(qkv, table, rotated, i, h * D, 0)
                for d in T.serial(D):
                    q[i, h * D + d] = rotated[d]
                rotate(qkv, sink_table, rotated, i, h * D, 0)
                for d in T.serial(D):
                    sink_q[i, h * D + d] = rotated[d]
            for h in T.serial(H):
                rotate(qkv, table, rotated, i, (q_heads + h) * D, 0)
                page = T.cast(slots[i], "int64") // page_size
                offset = T.cast(slots[i], "int64") % page_size
                store(pool, layer, page, rotated, pages.key(page_size, h, offset), TOKENS,
                      pages.key_scale(page_size, h, offset))  # fmt: skip
                for d in T.serial(D):
                    rotated[d] = qkv[i, (q_heads + H + h) * D + d]
                store(pool, layer, page, rotated, pages.value(page_size, h, offset), 1,
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
        elements = T.int64()
        qkv = T.match_buffer(p_qkv, (n, (q_heads + 2 * H) * D), "float32")
        table = T.match_buffer(p_table, (n, D), "float32")
        sink_table = T.match_buffer(p_sink_table, (n, D), "float32")
        slots = T.match_buffer(p_slots, (n,), "int32")
        pool = T.match_buffer(p_pool, (layers, num_pages, elements), pages.pool_dtype)
        q = T.match_buffer(p_q, (n, q_heads * D), "float32")
        sink_q = T.match_buffer(p_sink_q, (n, q_heads * D), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                token(qkv, table, sink_table, slots, pool, q, sink_q, layer, pages.page_size(elements), i)
        else:
            for i in T.parallel(n):
                token(qkv, table, sink_table, slots, pool, q, sink_q, layer, pages.page_size(elements), i)

    return kernel


def _store_floats(pages: Pages) -> Any:
    @T.inline
    def store(pool, layer, page, x, first, stride, scale_at):
        for d in T.serial(pages.dim):
            pool[layer, page, first + d * stride] = T.cast(x[d], pages.pool_dtype)

    return store


def _store_codes(pages: Pages) -> Any:
    """Symmetric codes, one f16 scale per token and head (quantization/kv.py is the reference)."""

    @T.inline
    def store(pool, layer, page, x, first, stride, scale_at):
        with T.sblock("codes"):
            T.reads()
            T.writes()
            peak = T.sblock_alloc_buffer((1,), "float32", scope="local")
            scale = T.sblock_alloc_buffer((1,), "float16", scope="local")
            peak[0] = T.float32(0)
            for d in T.serial(pages.dim):
                peak[0] = T.max(peak[0], T.fabs(x[d]))
            scale[0] = T.cast(peak[0] / T.float32(127), "float16")
            pool[layer, page, T.ramp(scale_at, 1, 2)] = T.reinterpret("uint8x2", scale[0])
            for d in T.serial(pages.dim):
                ratio = T.Select(scale[0] > T.float16(0), x[d] / T.cast(scale[0], "float32"), T.float32(0))
                code = T.cast(T.max(T.min(T.nearbyint(ratio), T.float32(127)), T.float32(-127)), "int8")
                pool[layer, page, first + d * stride] = T.reinterpret("uint8", code)

    return store
