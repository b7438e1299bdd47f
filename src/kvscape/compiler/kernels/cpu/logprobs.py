"""Log-probability of one token in each row of logits."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import exp, load, maximum, reduce_add, reduce_max, splat

LANES = 8


def logprobs(V: int) -> Any:
    """Arguments: logits f32 [r, V], token_ids int32 [r]; y f32 [r] = logit - log(sum(exp(logits)))."""
    whole = V // LANES * LANES

    @T.prim_func(s_tir=True)
    def kernel(p_logits: T.handle, p_ids: T.handle, p_y: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        r = T.int64()
        logits = T.match_buffer(p_logits, (r, V), "float32")
        ids = T.match_buffer(p_ids, (r,), "int32")
        y = T.match_buffer(p_y, (r,), "float32")
        for i in T.parallel(r):
            with T.sblock("row"):
                T.reads()
                T.writes()
                peak = T.sblock_alloc_buffer((LANES,), "float32")
                sums = T.sblock_alloc_buffer((LANES,), "float32")
                highest = T.sblock_alloc_buffer((1,), "float32")
                total = T.sblock_alloc_buffer((1,), "float32")
                peak[T.ramp(0, 1, LANES)] = load(logits, i, 0, lanes=LANES)
                sums[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
                for c in T.serial(V // LANES):
                    peak[T.ramp(0, 1, LANES)] = maximum(
                        load(peak, 0, lanes=LANES), load(logits, i, c * LANES, lanes=LANES), LANES
                    )
                highest[0] = reduce_max(load(peak, 0, lanes=LANES), LANES)
                for c in T.serial(whole, V):
                    highest[0] = T.max(highest[0], logits[i, c])
                for c in T.serial(V // LANES):
                    sums[T.ramp(0, 1, LANES)] = load(sums, 0, lanes=LANES) + exp(
                        load(logits, i, c * LANES, lanes=LANES) - splat(highest[0], LANES), LANES
                    )
                total[0] = reduce_add(load(sums, 0, lanes=LANES), LANES)
                for c in T.serial(whole, V):
                    total[0] = total[0] + T.exp(logits[i, c] - highest[0])
                y[i] = logits[i, ids[i]] - highest[0] - T.log(total[0])

    return kernel
