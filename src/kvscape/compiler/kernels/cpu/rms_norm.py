"""Root mean square normalization, alone or behind a residual addition (Zhang and Sennrich 2019, arXiv 1910.07467)."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, fma, load, reduce_add, splat

LANES = 8


def _normalize(K: int, eps: float) -> Any:
    """An inline that writes y = x / sqrt(mean(x^2) + eps) * weight for one row."""

    @T.inline
    def normalize(x, weight, y, i):
        with T.sblock("row"):
            T.reads()
            T.writes()
            squares = T.sblock_alloc_buffer((LANES,), "float32")
            factor = T.sblock_alloc_buffer((1,), "float32")
            squares[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            for c in T.serial(K // LANES):
                value = load(x, i, c * LANES, lanes=LANES)
                squares[T.ramp(0, 1, LANES)] = fma(value, value, load(squares, 0, lanes=LANES), LANES)
            mean = reduce_add(load(squares, 0, lanes=LANES), LANES) / T.float32(K)
            factor[0] = T.float32(1) / T.sqrt(mean + T.float32(eps))
            for c in T.serial(K // LANES):
                y[i, T.ramp(c * LANES, 1, LANES)] = (
                    load(x, i, c * LANES, lanes=LANES) * splat(factor[0], LANES) * load(weight, c * LANES, lanes=LANES)
                )

    return normalize


def rms_norm(K: int, eps: float) -> Any:
    """Arguments: x f32 [n, K], weight f32 [K]; y f32 [n, K]."""
    normalize = _normalize(K, eps)

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_weight: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        weight = T.match_buffer(p_weight, (K,), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                normalize(x, weight, y, i)
        else:
            for i in T.parallel(n):
                normalize(x, weight, y, i)

    return kernel


def add_rms_norm(K: int, eps: float) -> Any:
    """Arguments: delta, residual f32 [n, K], weight f32 [K]; y f32 [n, K], total = residual + delta f32 [n, K]."""
    normalize = _normalize(K, eps)

    @T.inline
    def row(delta, residual, weight, y, total, i):
        for c in T.serial(K // LANES):
            total[i, T.ramp(c * LANES, 1, LANES)] = load(residual, i, c * LANES, lanes=LANES) + load(
                delta, i, c * LANES, lanes=LANES
            )
        normalize(total, weight, y, i)

    @T.prim_func(s_tir=True)
    def kernel(p_delta: T.handle, p_residual: T.handle, p_weight: T.handle, p_y: T.handle, p_total: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        delta = T.match_buffer(p_delta, (n, K), "float32")
        residual = T.match_buffer(p_residual, (n, K), "float32")
        weight = T.match_buffer(p_weight, (K,), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        total = T.match_buffer(p_total, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(delta, residual, weight, y, total, i)
        else:
            for i in T.parallel(n):
                row(delta, residual, weight, y, total, i)

    return kernel
