"""What is done to every number of a row by itself: a bias, a factor, a soft cap."""

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, Expr, load, soft_capped, splat

LANES = 8


def add_bias(K: int) -> Any:
    """Arguments: x f32 [n, K], bias f32 [K]; y f32 [n, K]."""

    @T.inline
    def row(x, bias, y, i):
        for c in T.serial(K // LANES):
            y[i, T.ramp(c * LANES, 1, LANES)] = load(x, i, c * LANES, lanes=LANES) + load(bias, c * LANES, lanes=LANES)

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_bias: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        bias = T.match_buffer(p_bias, (K,), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(x, bias, y, i)
        else:
            for i in T.parallel(n):
                row(x, bias, y, i)

    return kernel


def scale(K: int, factor: float) -> Any:
    """Arguments: x f32 [n, K]; y f32 [n, K] = x * factor."""
    return _each(K, lambda x: x * splat(T.float32(factor), LANES))


def soft_cap(K: int, cap: float) -> Any:
    """Arguments: x f32 [n, K]; y f32 [n, K] = cap * tanh(x / cap)."""
    return _each(K, lambda x: soft_capped(x, cap, LANES))


def _each(K: int, change: Callable[[Expr], Expr]) -> Any:
    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        for i in T.parallel(n):
            for c in T.serial(K // LANES):
                y[i, T.ramp(c * LANES, 1, LANES)] = change(load(x, i, c * LANES, lanes=LANES))

    return kernel
