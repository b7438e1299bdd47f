"""Float activations: y[n, N] = x[n, K] W[N, K]^T with f32 sums in the order of k, for float and quantized weights."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.element import element
from kvscape.compiler.kernels.cpu.isa import GROUP
from kvscape.compiler.kernels.cpu.vector import fma, load, splat, to_float
from kvscape.quantization.format import Format

ROW_BLOCK = 8


def _rows(R: int, K: int) -> Any:
    """An inline: ``count`` rows of x times one block of R weight rows, weight [nb, K, R]."""

    @T.inline
    def rows(weight, x, y, nb, out, first, count):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((count * R,), "float32")
            for m in T.unroll(count):
                acc[T.ramp(m * R, 1, R)] = splat(T.float32(0), R)
            for k in T.serial(K):
                for m in T.unroll(count):
                    acc[T.ramp(m * R, 1, R)] = fma(
                        splat(x[first + m, k], R),
                        to_float(load(weight, nb, k, 0, lanes=R), R),
                        acc[T.ramp(m * R, 1, R)],
                        R,
                    )
            for m in T.unroll(count):
                y[first + m, T.ramp(out * R, 1, R)] = acc[T.ramp(m * R, 1, R)]

    return rows


def float_matmul(R: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: weight f32 or f16 [N/R, K, R], x f32 [n, K]; y f32 [n, N]."""
    rows, dtype = _rows(R, K), f"float{fmt.bits}"

    @T.prim_func(s_tir=True)
    def kernel(p_weight: T.handle, p_x: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        weight = T.match_buffer(p_weight, (N // R, K, R), dtype)
        x = T.match_buffer(p_x, (n, K), "float32")
        y = T.match_buffer(p_y, (n, N), "float32")
        for nb in T.parallel(N // R):
            for mb in T.serial(n // ROW_BLOCK):
                rows(weight, x, y, nb, nb, mb * ROW_BLOCK, ROW_BLOCK)
            for m in T.serial(n % ROW_BLOCK):
                rows(weight, x, y, nb, nb, n // ROW_BLOCK * ROW_BLOCK + m, 1)

    return kernel


def dequantized_matmul(R: int, fmt: Format, N: int, K: int) -> Any:
    """Arguments: codes u8, scales f16, x f32 [n, K]; y f32 [n, N]. Each block of weights is decoded once."""
    rows = _rows(R, K)
    groups = N * K // GROUP
    parts = 1 if fmt.symmetric else 2

    @T.prim_func(s_tir=True)
    def kernel(p_codes: T.handle, p_scales: T.handle, p_x: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        codes = T.match_buffer(p_codes, (groups * GROUP * fmt.bits // 8,), "uint8")
        scales = T.match_buffer(p_scales, (groups * parts,), "float16")
        x = T.match_buffer(p_x, (n, K), "float32")
        y = T.match_buffer(p_y, (n, N), "float32")
        for nb in T.parallel(N // R):
            with T.sblock("decode"):
                T.reads()
                T.writes()
                weight = T.sblock_alloc_buffer((1, K, R), "float32")
                for k, row in T.grid(K, R):
                    weight[0, k, row] = element(
                        fmt, R, K, codes, scales, T.cast(nb, "int64") * R + row, T.cast(k, "int64")
                    )
                for mb in T.serial(n // ROW_BLOCK):
                    rows(weight, x, y, 0, nb, mb * ROW_BLOCK, ROW_BLOCK)
                for m in T.serial(n % ROW_BLOCK):
                    rows(weight, x, y, 0, nb, n // ROW_BLOCK * ROW_BLOCK + m, 1)

    return kernel
