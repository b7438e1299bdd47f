"""The likeliest token of each row of logits."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import load, splat

LANES = 16


def greedy(V: int) -> Any:
    """Arguments: logits f32 [r, V]; y int32 [r], the first of the largest."""

    @T.prim_func(s_tir=True)
    def kernel(p_logits: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        r = T.int64()
        logits = T.match_buffer(p_logits, (r, V), "float32")
        y = T.match_buffer(p_y, (r,), "int32")
        for i in T.serial(r):
            with T.sblock("row"):
                T.reads()
                T.writes()
                peaks = T.sblock_alloc_buffer((LANES,), "float32")
                places = T.sblock_alloc_buffer((LANES,), "int32")
                peak = T.sblock_alloc_buffer((1,), "float32")
                place = T.sblock_alloc_buffer((1,), "int32")
                peaks[T.ramp(0, 1, LANES)] = splat(T.float32(float("-inf")), LANES)
                places[T.ramp(0, 1, LANES)] = splat(T.int32(0), LANES)
                for c in T.serial(V // LANES):
                    larger = load(logits, i, c * LANES, lanes=LANES) > load(peaks, 0, lanes=LANES)
                    places[T.ramp(0, 1, LANES)] = T.Select(
                        larger, splat(T.cast(c, "int32"), LANES), load(places, 0, lanes=LANES)
                    )
                    peaks[T.ramp(0, 1, LANES)] = T.Select(
                        larger, load(logits, i, c * LANES, lanes=LANES), load(peaks, 0, lanes=LANES)
                    )
                peak[0] = peaks[0]
                place[0] = places[0] * LANES
                for lane in T.serial(1, LANES):
                    at = places[lane] * LANES + T.cast(lane, "int32")
                    if peaks[lane] > peak[0] or (peaks[lane] == peak[0] and at < place[0]):
                        peak[0] = peaks[lane]
                        place[0] = at
                for c in T.serial(V // LANES * LANES, V):
                    if logits[i, c] > peak[0]:
                        peak[0] = logits[i, c]
                        place[0] = T.cast(c, "int32")
                y[i] = place[0]

    return kernel
