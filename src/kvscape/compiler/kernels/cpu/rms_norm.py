"""Root mean square normalization, alone or behind a residual addition (Zhang and Sennrich 2019, arXiv 1910.07467)."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.quantize import quantize_group
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, Expr, fma, load, reduce_add, splat

LANES = 8


def _scaled(x: Any, weight: Any, factor: Any, i: Expr, k: Expr) -> Expr:
    """``LANES`` normalized values of row i from column k on."""
    return load(x, i, k, lanes=LANES) * splat(factor[0], LANES) * load(weight, k, lanes=LANES)


def _parts(K: int, eps: float) -> tuple[Any, Any, Any]:
    """The pieces of the kernels for rows of K numbers.

    ``add`` writes the sum of a row, ``measure`` what it is divided by, ``write`` the normalized row in floats.
    """

    @T.inline
    def add(delta, residual, total, i):
        for c in T.serial(K // LANES):
            total[i, T.ramp(c * LANES, 1, LANES)] = load(residual, i, c * LANES, lanes=LANES) + load(
                delta, i, c * LANES, lanes=LANES
            )

    @T.inline
    def measure(x, factor, i):
        with T.sblock("mean"):
            T.reads()
            T.writes()
            squares = T.sblock_alloc_buffer((LANES,), "float32")
            squares[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            for c in T.serial(K // LANES):
                value = load(x, i, c * LANES, lanes=LANES)
                squares[T.ramp(0, 1, LANES)] = fma(value, value, load(squares, 0, lanes=LANES), LANES)
            mean = reduce_add(load(squares, 0, lanes=LANES), LANES) / T.float32(K)
            factor[0] = T.float32(1) / T.sqrt(mean + T.float32(eps))

    @T.inline
    def write(x, weight, y, i):
        with T.sblock("row"):
            T.reads()
            T.writes()
            factor = T.sblock_alloc_buffer((1,), "float32")
            measure(x, factor, i)
            for c in T.serial(K // LANES):
                y[i, T.ramp(c * LANES, 1, LANES)] = _scaled(x, weight, factor, i, c * LANES)

    return add, measure, write


def _rounded(K: int, group: int, measure: Any) -> Any:
    """A piece ``round_row(x, weight, codes, scale, sums, i)``: the normalized row in 8-bit codes."""
    whole, part = K // group, K % group // LANES
    round_group = quantize_group(group)

    @T.inline
    def one(x, weight, factor, values, codes, scale, sums, i, g, filled):
        for c in T.unroll(filled):
            values[T.ramp(c * LANES, 1, LANES)] = _scaled(x, weight, factor, i, g * group + c * LANES)
        round_group(values, codes, scale, sums, i, g, filled)

    @T.inline
    def round_row(x, weight, codes, scale, sums, i):
        with T.sblock("row"):
            T.reads()
            T.writes()
            factor = T.sblock_alloc_buffer((1,), "float32")
            values = T.sblock_alloc_buffer((group,), "float32")
            measure(x, factor, i)
            for g in T.serial(whole):
                one(x, weight, factor, values, codes, scale, sums, i, g, group // LANES)
            if part > 0:
                one(x, weight, factor, values, codes, scale, sums, i, whole, part)

    return round_row


def rms_norm(K: int, eps: float) -> Any:
    """Arguments: x f32 [n, K], weight f32 [K]; y f32 [n, K]."""
    _, _, write = _parts(K, eps)

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_weight: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        weight = T.match_buffer(p_weight, (K,), "float32")
        y = T.match_buffer(p_y, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                write(x, weight, y, i)
        else:
            for i in T.parallel(n):
                write(x, weight, y, i)

    return kernel


def add_rms_norm(K: int, eps: float) -> Any:
    """Arguments: delta, residual f32 [n, K], weight f32 [K]; y f32 [n, K], total = residual + delta f32 [n, K]."""
    add, _, write = _parts(K, eps)

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
                add(delta, residual, total, i)
                write(total, weight, y, i)
        else:
            for i in T.parallel(n):
                add(delta, residual, total, i)
                write(total, weight, y, i)

    return kernel


def add_rms_norm_quantize(K: int, eps: float, group: int) -> Any:
    """Arguments: delta, residual f32 [n, K], weight f32 [K]; codes, scale and sum as ``quantize``, total f32 [n, K]."""
    add, measure, _ = _parts(K, eps)
    round_row = _rounded(K, group, measure)
    G = -(-K // group)

    @T.prim_func(s_tir=True)
    def kernel(
        p_delta: T.handle,
        p_residual: T.handle,
        p_weight: T.handle,
        p_codes: T.handle,
        p_scale: T.handle,
        p_sums: T.handle,
        p_total: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        delta = T.match_buffer(p_delta, (n, K), "float32")
        residual = T.match_buffer(p_residual, (n, K), "float32")
        weight = T.match_buffer(p_weight, (K,), "float32")
        codes = T.match_buffer(p_codes, (n, G * group), "int8")
        scale = T.match_buffer(p_scale, (n, G), "float32")
        sums = T.match_buffer(p_sums, (n, G), "int32")
        total = T.match_buffer(p_total, (n, K), "float32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                add(delta, residual, total, i)
                round_row(total, weight, codes, scale, sums, i)
        else:
            for i in T.parallel(n):
                add(delta, residual, total, i)
                round_row(total, weight, codes, scale, sums, i)

    return kernel
