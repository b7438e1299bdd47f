"""What the query heads of one token take from a span of 64 keys and values: scores, softmax, weighted sum."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.load_block import LANES
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.compiler.kernels.cpu.vector import (
    Expr,
    exp,
    fma,
    load,
    maximum,
    reduce_add,
    reduce_max,
    soft_capped,
    splat,
)

TOKENS = 16  # keys of a block
PARTS = TOKENS // LANES
BLOCKS = 4  # blocks of a span
SPAN = BLOCKS * TOKENS
LOWEST = -3.0e38


def heads_together(group: int) -> int:
    """Query heads of one token that share each load of a key or value: the largest divisor of ``group`` up to 4."""
    return max(count for count in range(1, 5) if group % count == 0)


def _keys(first_key: Expr) -> Expr:
    return T.ramp(T.cast(first_key, "int32"), 1, LANES)


def _visible(first_key: Expr, position: Expr, window: Any, value: Expr, otherwise: float) -> Expr:
    """``value`` where the lane's key is a sink or recent, and not behind the query's position."""
    keys, hidden = _keys(first_key), splat(T.float32(otherwise), LANES)
    recent = T.Select(keys > splat(position - window[1], LANES), value, hidden)
    seen = T.Select(keys < splat(window[0], LANES), value, recent)
    return T.Select(keys <= splat(position, LANES), seen, hidden)


def _sum_chains(acc: Any, index: Expr, chains: int, stride: int) -> Expr:
    total = load(acc, index * LANES, lanes=LANES)
    for chain in range(1, chains):
        total = total + load(acc, (chain * stride + index) * LANES, lanes=LANES)
    return total


def exp_scalar(x: Expr) -> Expr:
    return T.Shuffle([exp(splat(x, LANES), LANES)], [T.int32(0)])


def attend_span(pages: Pages, group: int, scale: float, soft_cap: float) -> Any:
    """A piece ``attend(q, sink_q, keys, values, out, peak, total, token, at, row, first_key, blocks, position,
    window)``.

    ``keys`` are [block][dimension][16], where they have groups followed by the unrounded ones, ``values`` [token][dim];
    ``at`` is the query's place in its row of q, ``row`` where ``out`` and, one for each row, ``peak`` and ``total`` are
    brought up to date: the weighted sum, the highest score and the sum of weights. Scores are products times ``scale``,
    bent below ``soft_cap`` where that is not 0.
    """
    D = pages.dim
    count = heads_together(group)
    chains = 2 if count > 2 else 4
    wide = 4 if count < 3 and D % (4 * LANES) == 0 else 2
    grouped = pages.precision.key_group > 1

    @T.inline
    def score(q, keys, first, s, block, token, at):
        # Several chains of sums for each head and 8 keys: an addition need not wait for the one before it.
        with T.sblock("score"):
            T.reads()
            T.writes()
            acc = T.sblock_alloc_buffer((chains * count * TOKENS,), "float32")
            for i in T.unroll(chains * count * PARTS):
                acc[T.ramp(i * LANES, 1, LANES)] = splat(T.float32(0), LANES)
            for d in T.serial(D // chains):
                for i in T.unroll(chains * count * PARTS):
                    chain, m, part = i // (count * PARTS), i // PARTS % count, i % PARTS
                    acc[T.ramp(i * LANES, 1, LANES)] = fma(
                        splat(q[token, at + m * D + d * chains + chain], LANES),
                        load(keys, first + (d * chains + chain) * TOKENS + part * LANES, lanes=LANES),
                        load(acc, i * LANES, lanes=LANES),
                        LANES,
                    )
            for i in T.unroll(count * PARTS):
                s[T.ramp(i // PARTS * SPAN + block * TOKENS + i % PARTS * LANES, 1, LANES)] = _sum_chains(
                    acc, i, chains, count * PARTS
                ) * splat(T.float32(scale), LANES)
            if soft_cap > 0:
                for i in T.unroll(count * PARTS):
                    bent: T.let[T.int64] = i // PARTS * SPAN + block * TOKENS + i % PARTS * LANES
                    s[T.ramp(bent, 1, LANES)] = soft_capped(load(s, bent, lanes=LANES), soft_cap, LANES)

    @T.inline
    def soften(s, alpha, peak, total, m, row, blocks, first_key, position, window, masked):
        # Scores to probabilities against the highest score so far, which may rise: alpha rescales what was summed.
        with T.sblock("soften"):
            T.reads()
            T.writes()
            highest = T.sblock_alloc_buffer((1,), "float32")
            best = T.sblock_alloc_buffer((LANES,), "float32")
            mass = T.sblock_alloc_buffer((LANES,), "float32")
            best[T.ramp(0, 1, LANES)] = splat(T.float32(LOWEST), LANES)
            mass[T.ramp(0, 1, LANES)] = splat(T.float32(0), LANES)
            for part in T.serial(blocks * PARTS):
                at: T.let[T.int64] = m * SPAN + part * LANES
                if masked:
                    s[T.ramp(at, 1, LANES)] = _visible(
                        first_key + part * LANES, position, window, load(s, at, lanes=LANES), LOWEST
                    )
                best[T.ramp(0, 1, LANES)] = maximum(load(best, 0, lanes=LANES), load(s, at, lanes=LANES), LANES)
            highest[0] = T.max(peak[row], reduce_max(load(best, 0, lanes=LANES), LANES))
            alpha[m] = exp_scalar(peak[row] - highest[0])
            peak[row] = highest[0]
            for part in T.serial(blocks * PARTS):
                here: T.let[T.int64] = m * SPAN + part * LANES
                s[T.ramp(here, 1, LANES)] = exp(load(s, here, lanes=LANES) - splat(highest[0], LANES), LANES)
                if masked:
                    s[T.ramp(here, 1, LANES)] = _visible(
                        first_key + part * LANES, position, window, load(s, here, lanes=LANES), 0.0
                    )
                mass[T.ramp(0, 1, LANES)] = load(mass, 0, lanes=LANES) + load(s, here, lanes=LANES)
            total[row] = fma(total[row], alpha[m], reduce_add(load(mass, 0, lanes=LANES), LANES), 1)

    @T.inline
    def add_values(s, values, out, alpha, row, tokens):
        for c in T.serial(D // LANES // wide):
            with T.sblock("add_values"):
                T.reads()
                T.writes()
                acc = T.sblock_alloc_buffer((count * wide * LANES,), "float32")
                for i in T.unroll(count * wide):
                    acc[T.ramp(i * LANES, 1, LANES)] = load(
                        out, (row + i // wide) * D + (c * wide + i % wide) * LANES, lanes=LANES
                    ) * splat(alpha[i // wide], LANES)
                for t in T.serial(tokens):
                    for i in T.unroll(count * wide):
                        acc[T.ramp(i * LANES, 1, LANES)] = fma(
                            splat(s[i // wide * SPAN + t], LANES),
                            load(values, t * D + (c * wide + i % wide) * LANES, lanes=LANES),
                            load(acc, i * LANES, lanes=LANES),
                            LANES,
                        )
                for i in T.unroll(count * wide):
                    out[T.ramp((row + i // wide) * D + (c * wide + i % wide) * LANES, 1, LANES)] = load(
                        acc, i * LANES, lanes=LANES
                    )

    @T.inline
    def attend(q, sink_q, keys, values, out, peak, total, token, at, row, first_key, blocks, position, window):
        with T.sblock("attend"):
            T.reads()
            T.writes()
            s = T.sblock_alloc_buffer((count * SPAN,), "float32")
            alpha = T.sblock_alloc_buffer((count,), "float32")
            for block in T.serial(blocks):
                own_keys: T.let[T.bool] = grouped and first_key // TOKENS + block == T.cast(position, "int64") // TOKENS
                score(q, keys, T.if_then_else(own_keys, SPAN * D, 0) + block * TOKENS * D, s, block, token, at)
                if first_key + block * TOKENS < T.cast(window[0], "int64"):
                    sink_s = T.sblock_alloc_buffer((count * SPAN,), "float32")
                    score(
                        sink_q,
                        keys,
                        T.if_then_else(own_keys, SPAN * D, 0) + block * TOKENS * D,
                        sink_s,
                        block,
                        token,
                        at,
                    )
                    for i in T.unroll(count * PARTS):
                        lane: T.let[T.int64] = i // PARTS * SPAN + block * TOKENS + i % PARTS * LANES
                        s[T.ramp(lane, 1, LANES)] = T.Select(
                            _keys(first_key + block * TOKENS + i % PARTS * LANES) < splat(window[0], LANES),
                            load(sink_s, lane, lanes=LANES),
                            load(s, lane, lanes=LANES),
                        )
            last: T.let[T.int64] = first_key + blocks * TOKENS - 1
            if last > T.cast(position, "int64") or first_key <= T.cast(position - window[1], "int64"):
                for m in T.serial(count):
                    soften(s, alpha, peak, total, m, row + m, blocks, first_key, position, window, True)
            else:
                for m in T.serial(count):
                    soften(s, alpha, peak, total, m, row + m, blocks, first_key, position, window, False)
            add_values(s, values, out, alpha, row, blocks * TOKENS)

    return attend
