"""Activations to 8 bit in groups of 32: scale = max|x| / 127, code = round half to even, and the codes' sum."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.isa import GROUP
from kvscape.compiler.kernels.cpu.vector import SERIAL_ROWS, load, maximum, reduce_add, reduce_max, round_even, splat

LANES = 8
SMALLEST_NORMAL = 2.0**-126  # the reciprocal of a smaller scale may be infinite: such groups count as zeros


@T.inline
def quantize_group(values, codes, scale, total, i, g):
    """Round group g of row i, whose 32 floats are in ``values``; kernels that compute them have no other copy."""
    with T.sblock("group"):
        T.reads()
        T.writes()
        peak = T.sblock_alloc_buffer((LANES,), "float32")
        sums = T.sblock_alloc_buffer((LANES,), "int32")
        inverse = T.sblock_alloc_buffer((1,), "float32")
        peak[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
        sums[T.ramp(0, 1, LANES)] = splat(T.int32(0), LANES)
        for c in T.unroll(GROUP // LANES):
            peak[T.ramp(0, 1, LANES)] = maximum(
                load(peak, 0, lanes=LANES),
                T.call_llvm_pure_intrin("float32x8", "llvm.fabs", load(values, c * LANES, lanes=LANES)),
                LANES,
            )
        scale[i, g] = reduce_max(load(peak, 0, lanes=LANES), LANES) / T.float32(127)
        inverse[0] = T.Select(scale[i, g] >= T.float32(SMALLEST_NORMAL), T.float32(1) / scale[i, g], T.float32(0))
        for c in T.unroll(GROUP // LANES):
            rounded = T.cast(
                round_even(load(values, c * LANES, lanes=LANES) * splat(inverse[0], LANES), LANES), "int32x8"
            )
            codes[i, T.ramp(g * GROUP + c * LANES, 1, LANES)] = T.cast(rounded, "int8x8")
            sums[T.ramp(0, 1, LANES)] = load(sums, 0, lanes=LANES) + rounded
        total[i, g] = reduce_add(load(sums, 0, lanes=LANES), LANES)


def quantize(K: int) -> Any:
    """Arguments: x f32 [n, K]; codes int8 [n, K], scale f32 [n, K/32], sum int32 [n, K/32]."""
    G = K // GROUP

    @T.inline
    def row(x, codes, scale, total, i):
        for g in T.serial(G):
            with T.sblock("values"):
                T.reads()
                T.writes()
                values = T.sblock_alloc_buffer((GROUP,), "float32")
                for c in T.unroll(GROUP // LANES):
                    values[T.ramp(c * LANES, 1, LANES)] = load(x, i, g * GROUP + c * LANES, lanes=LANES)
                quantize_group(values, codes, scale, total, i, g)

    @T.prim_func(s_tir=True)
    def kernel(p_x: T.handle, p_codes: T.handle, p_scale: T.handle, p_total: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        n = T.int64()
        x = T.match_buffer(p_x, (n, K), "float32")
        codes = T.match_buffer(p_codes, (n, K), "int8")
        scale = T.match_buffer(p_scale, (n, G), "float32")
        total = T.match_buffer(p_total, (n, G), "int32")
        if n < SERIAL_ROWS:
            for i in T.serial(n):
                row(x, codes, scale, total, i)
        else:
            for i in T.parallel(n):
                row(x, codes, scale, total, i)

    return kernel
