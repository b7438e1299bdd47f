"""Quantized weights times 8-bit activations: y[n, N] = x[n, K] W[N, K]^T, in groups along K.

Each output is summed over the groups in order, whatever the number of rows: batching never changes a result.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.isa import Isa
from kvscape.compiler.kernels.cpu.vector import Expr, fma, load, splat, to_float
from kvscape.quantization.format import Format

ROW_BLOCK = 4  # rows of activations that share one load of the weights


def _partial(isa: Isa, fmt: Format, codes: Any, at: Expr, x: Any, x_sum: Any, row: Expr, g: Expr) -> Expr:
    """Sum of (code - zero point) x activation over group g of one row, for all weight rows of the block."""
    k = g * fmt.group_size
    if fmt.bits == 8:
        return isa.dot_signed(codes, at, x, row, k, x_sum[row, g])
    dot = isa.dot_unsigned(fmt, codes, at, x, row, k)
    return dot - splat(T.int32(fmt.max_int) * x_sum[row, g], isa.rows) if fmt.symmetric else dot


def int8_matmul(isa: Isa, fmt: Format, N: int, K: int) -> Any:
    """Arguments: codes u8, scales (minima beside them), x int8 [n, padded K], its scale f32 and sum int32 [n, groups].

    The result is y f32 [n, N]. Where the last group is not full, x is zero.
    """
    R, G, blocks = isa.rows, fmt.groups(K), N // isa.rows
    group_bytes = R * fmt.words_per_group * 4
    parts = len(fmt.constants)

    @T.inline
    def rows(codes, scales, x, x_scale, x_sum, y, nb, first, count):
        with T.sblock("rows"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((count * R,), "float32")
            for m in T.unroll(count):
                acc[T.ramp(m * R, 1, R)] = splat(T.float32(0), R)
            for g in T.serial(G):
                for m in T.unroll(count):
                    acc[T.ramp(m * R, 1, R)] = fma(
                        to_float(_partial(isa, fmt, codes, (nb * G + g) * group_bytes, x, x_sum, first + m, g), R),
                        to_float(load(scales, (nb * G + g) * parts * R, lanes=R), R) * splat(x_scale[first + m, g], R),
                        acc[T.ramp(m * R, 1, R)],
                        R,
                    )
                    if not fmt.symmetric:
                        acc[T.ramp(m * R, 1, R)] = fma(
                            to_float(load(scales, ((nb * G + g) * parts + 1) * R, lanes=R), R),
                            splat(x_scale[first + m, g] * T.cast(x_sum[first + m, g], "float32"), R),
                            acc[T.ramp(m * R, 1, R)],
                            R,
                        )
            for m in T.unroll(count):
                y[first + m, T.ramp(nb * R, 1, R)] = acc[T.ramp(m * R, 1, R)]

    @T.prim_func(s_tir=True)
    def kernel(
        p_codes: T.handle,
        p_scales: T.handle,
        p_x: T.handle,
        p_x_scale: T.handle,
        p_x_sum: T.handle,
        p_y: T.handle,
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        codes = T.match_buffer(p_codes, (blocks * G * group_bytes,), "uint8")
        scales = T.match_buffer(p_scales, (blocks * G * parts * R,), fmt.scale_dtype)
        x = T.match_buffer(p_x, (n, fmt.padded(K)), "int8")
        x_scale = T.match_buffer(p_x_scale, (n, G), "float32")
        x_sum = T.match_buffer(p_x_sum, (n, G), "int32")
        y = T.match_buffer(p_y, (n, N), "float32")
        for nb in T.parallel(blocks):
            for mb in T.serial(n // ROW_BLOCK):
                rows(codes, scales, x, x_scale, x_sum, y, nb, mb * ROW_BLOCK, ROW_BLOCK)
            for m in T.serial(n % ROW_BLOCK):
                rows(codes, scales, x, x_scale, x_sum, y, nb, n // ROW_BLOCK * ROW_BLOCK + m, 1)

    return kernel
