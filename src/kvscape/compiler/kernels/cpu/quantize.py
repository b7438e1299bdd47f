"""Activations to 8 bit: scale = max|x| / 127, code = round half to even, and the codes' sum.

Their groups are those of the weights that they meet.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, load, maximum, reduce_add, reduce_max, round_even, splat

LANES = 8
SMALLEST_NORMAL = 2.0**-126  # the reciprocal of a smaller scale may be infinite: such groups count as zeros


def quantize_group(group: int) -> Any:
    """A piece ``round_group(values, codes, scale, total, i, g, filled)``: group g of row i, out of ``values``.

    Kernels that compute them have no other copy. ``filled`` counts their vectors; the codes of the others are zeros.
    """
    vectors = group // LANES

    @T.inline
    def round_group(values, codes, scale, total, i, g, filled):
        with T.sblock("group"):
            T.reads()
            T.writes()
            peak = T.sblock_alloc_buffer((LANES,), "float32")
            sums = T.sblock_alloc_buffer((LANES,), "int32")
            inverse = T.sblock_alloc_buffer((1,), "float32")
            peak[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            sums[T.ramp(0, 1, LANES)] = splat(T.int32(0), LANES)
            for c in T.unroll(filled):
                peak[T.ramp(0, 1, LANES)] = maximum(
                    load(peak, 0, lanes=LANES),
                    T.call_llvm_pure_intrin("float32x8", "llvm.fabs", load(values, c * LANES, lanes=LANES)),
                    LANES,
                )
            scale[i, g] = reduce_max(load(peak, 0, lanes=LANES), LANES) / T.float32(127)
            inverse[0] = T.Select(scale[i, g] >= T.float32(SMALLEST_NORMAL), T.float32(1) / scale[i, g], T.float32(0))
            for c in T.unroll(filled):
                rounded = T.cast(
                    round_even(load(values, c * LANES, lanes=LANES) * splat(inverse[0], LANES), LANES), "int32x8"
                )
                codes[i, T.ramp(g * group + c * LANES, 1, LANES)] = T.cast(rounded, "int8x8")
                sums[T.ramp(0, 1, LANES)] = load(sums, 0, lanes=LANES) + rounded
            if filled < vectors:
                for c in T.unroll(vectors - filled):
                    codes[i, T.ramp(g * group + (filled + c) * LANES, 1, LANES)] = splat(T.int8(0), LANES)
            total[i, g] = reduce_add(load(sums, 0, lanes=LANES), LANES)

    return round_group


def quantize(K: int, group: int) -> Any:
    """Arguments: x f32 [n, K]; codes int8 [n, padded K], scale f32 [n, groups], sum int32 [n, groups].

    The codes with which the last group is filled are zeros.
    """
    G, whole, part = -(-K // group), K // group, K % group // LANES
    round_group = quantize_group(group)

    @T.inline
    def one(x, codes, scale, total, i, g, filled):
        with T.sblock("values"):
            T.reads()
            T.writes()
            values = T.sblock_alloc_buffer((group,), "float32")
            for c in T.unroll(filled):
                values[T.ramp(c * LANES, 1, LANES)] = load(x, i, g * group + c * LANES, lanes=LANES)
            round_group(values, codes, scale, total, i, g, filled)

    @T.inline
    def row(x, codes, scale, total, i):
        for g in T.serial(whole):
            one(x, codes, scale, total, i, g, group // LANES)
        if part > 0:
            one(x, codes, scale, total, i, whole, part)

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_codes: T.handle, p_scale: T.handle, p_total: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        codes = T.match_buffer(p_codes, (n, G * group), "int8")
        scale = T.match_buffer(p_scale, (n, G), "float32")
        total = T.match_buffer(p_total, (n, G), "int32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(x, codes, scale, total, i)
        else:
            for i in T.parallel(n):
                row(x, codes, scale, total, i)

    return kernel
