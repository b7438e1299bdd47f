"""Root mean square normalization of each query's and key's head (Henry et al. 2020, arXiv 2010.04245)."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, fma, load, reduce_add, splat

LANES = 8


def head_norm(q_heads: int, heads: int, D: int, eps: float) -> Any:
    """Arguments: qkv f32 [n, (q_heads + 2 heads) D], weights of queries and of keys f32 [D]; y f32 as qkv, whose values
    it has unchanged."""
    width = (q_heads + 2 * heads) * D

    @T.inline
    def norm(qkv, weight, y, i, first):
        with T.sblock("head"):
            T.reads()
            T.writes()
            squares = T.sblock_alloc_buffer((LANES,), "float32")
            factor = T.sblock_alloc_buffer((1,), "float32")
            squares[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            for c in T.serial(D // LANES):
                value = load(qkv, i, first + c * LANES, lanes=LANES)
                squares[T.ramp(0, 1, LANES)] = fma(value, value, load(squares, 0, lanes=LANES), LANES)
            mean = reduce_add(load(squares, 0, lanes=LANES), LANES) / T.float32(D)
            factor[0] = T.float32(1) / T.sqrt(mean + T.float32(eps))
            for c in T.serial(D // LANES):
                y[i, T.ramp(first + c * LANES, 1, LANES)] = (
                    load(qkv, i, first + c * LANES, lanes=LANES)
                    * splat(factor[0], LANES)
                    * load(weight, c * LANES, lanes=LANES)
                )

    @T.inline
    def row(qkv, q_weight, k_weight, y, i):
        for h in T.serial(q_heads):
            norm(qkv, q_weight, y, i, h * D)
        for h in T.serial(heads):
            norm(qkv, k_weight, y, i, (q_heads + h) * D)
        for c in T.serial(heads * D // LANES):
            y[i, T.ramp((q_heads + heads) * D + c * LANES, 1, LANES)] = load(
                qkv, i, (q_heads + heads) * D + c * LANES, lanes=LANES
            )

    @T.prim_func(s_tir=True)
    def kernel(p_qkv: T.handle, p_q_weight: T.handle, p_k_weight: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        qkv = T.match_buffer(p_qkv, (n, width), "float32")
        q_weight = T.match_buffer(p_q_weight, (D,), "float32")
        k_weight = T.match_buffer(p_k_weight, (D,), "float32")
        y = T.match_buffer(p_y, (n, width), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(qkv, q_weight, k_weight, y, i)
        else:
            for i in T.parallel(n):
                row(qkv, q_weight, k_weight, y, i)

    return kernel
