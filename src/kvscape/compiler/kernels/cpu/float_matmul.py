"""Float activations: y[n, N] = x[n, K] W[N, K]^T with f32 sums in the order of k, for float and quantized weights."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.element import element
from kvscape.compiler.kernels.cpu.vector import fma, load, splat, to_float
from kvscape.quantization.format import Format

# Rows of x times blocks of weight rows whose sums stay in registers: as many products as the loads of both can feed.
ROW_BLOCK = 6
BLOCKS = 2
# One row, or two: more sums at once than one multiplication takes cycles.
FEW_BLOCKS = 4


def _columns(N: int, R: int) -> int:
    """Blocks of weight rows that one task takes: as many as divide all of them evenly."""
    return next(count for count in (FEW_BLOCKS, BLOCKS, 1) if N // R % count == 0)


def _products(R: int, K: int, columns: int) -> Any:
    """An inline: all rows of x times ``columns`` blocks of R weight rows, weight [blocks, K, R], from ``block`` on."""
    pair = min(BLOCKS, columns)

    @T.inline
    def tile(weight, x, y, block, out, first, count, width):
        with T.sblock("tile"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((count * width * R,), "float32")
            for m in T.unroll(count * width):
                acc[T.ramp(m * R, 1, R)] = splat(T.float32(0), R)
            for k in T.serial(K):
                for m in T.unroll(count):
                    for c in T.unroll(width):
                        acc[T.ramp((m * width + c) * R, 1, R)] = fma(
                            splat(x[first + m, k], R),
                            to_float(load(weight, block + c, k, 0, lanes=R), R),
                            acc[T.ramp((m * width + c) * R, 1, R)],
                            R,
                        )
            for m in T.unroll(count):
                for c in T.unroll(width):
                    y[first + m, T.ramp((out + c) * R, 1, R)] = acc[T.ramp((m * width + c) * R, 1, R)]

    @T.inline
    def products(weight, x, y, block, out, n):
        for mb in T.serial(n // ROW_BLOCK):
            for c in T.serial(columns // pair):
                tile(weight, x, y, block + c * pair, out + c * pair, mb * ROW_BLOCK, ROW_BLOCK, pair)
        for mb in T.serial(n % ROW_BLOCK // 2):
            tile(weight, x, y, block, out, n // ROW_BLOCK * ROW_BLOCK + mb * 2, 2, columns)
        for _ in T.serial(n % 2):
            tile(weight, x, y, block, out, n - 1, 1, columns)

    return products


def float_matmul(R: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: weight f32 or f16 [N/R, K, R], x f32 [n, K]; y f32 [n, N]."""
    columns = _columns(N, R)
    products, dtype = _products(R, K, columns), f"float{fmt.bits}"

    @T.prim_func(s_tir=True)
    def kernel(p_weight: T.handle, p_x: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        weight = T.match_buffer(p_weight, (N // R, K, R), dtype)
        x = T.match_buffer(p_x, (n, K), "float32")
        y = T.match_buffer(p_y, (n, N), "float32")
        for task in T.parallel(N // R // columns):
            products(weight, x, y, task * columns, task * columns, n)

    return kernel


def dequantized_matmul(R: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: codes u8, scales, x f32 [n, K]; y f32 [n, N]. Each block of weights is decoded once."""
    columns = _columns(N, R)
    products = _products(R, K, columns)
    groups = N * fmt.groups(K)

    @T.prim_func(s_tir=True)
    def kernel(p_codes: T.handle, p_scales: T.handle, p_x: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        codes = T.match_buffer(p_codes, (groups * fmt.words_per_group * 4,), "uint8")
        scales = T.match_buffer(p_scales, (groups * len(fmt.constants),), fmt.scale_dtype)
        x = T.match_buffer(p_x, (n, K), "float32")
        y = T.match_buffer(p_y, (n, N), "float32")
        for task in T.parallel(N // R // columns):
            with T.sblock("decode"):
                T.reads()
                T.writes()
                weight = T.sblock_alloc_buffer((columns, K, R), "float32")
                for c, k, row in T.grid(columns, K, R):
                    weight[c, k, row] = element(
                        fmt, R, K, codes, scales, (T.cast(task, "int64") * columns + c) * R + row, T.cast(k, "int64")
                    )
                products(weight, x, y, 0, task * columns, n)

    return kernel
