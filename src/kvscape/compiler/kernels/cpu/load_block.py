"""A block of 16 keys and values from their pages, as f32 in the order that attention reads them."""

from typing import Any

from tvm.script import tirx as T

from kvscape.analysis.memory import code_bytes
from kvscape.compiler.kernels.cpu.pages import TOKENS, Pages, read, read_half, read_nibbles
from kvscape.compiler.kernels.cpu.vector import fma, load, splat

LANES = 8


def load_keys(pages: Pages) -> Any:
    """A piece ``load(pool, layer, page, other, page_size, head, offset, other_offset, keys, start)``.

    It writes [dimension][16] from ``start`` on; ``page`` and ``offset`` are the place of the block's first token, the
    others that of its ninth.
    """
    return _load_int4_keys(pages) if pages.precision.key == "int4" else _load_keys(pages)


def load_values(pages: Pages) -> Any:
    """A piece ``load(pool, layer, page, page_size, head, offset, t, values)``: one token's value, values[token][dim].

    int4 values stay rotated.
    """
    return _load_int4_values(pages) if pages.precision.value == "int4" else _load_values(pages)


def _load_keys(pages: Pages) -> Any:
    dtype, D = pages.precision.key, pages.dim
    size = code_bytes(dtype, 1)

    @T.inline
    def half(pool, layer, page, page_size, head, offset, keys, start, part):
        with T.sblock("keys"):
            T.reads()
            T.writes()
            scale = T.sblock_alloc_buffer((LANES,), "float32")
            codes: T.let[T.int64] = pages.keys(page_size, head, offset)
            if dtype == "int8":
                scales: T.let[T.int64] = pages.key_scale(page_size, head, offset)
                scale[T.ramp(0, 1, LANES)] = read(pool, layer, page, scales, "f16", LANES)
                for d in T.serial(D):
                    keys[T.ramp(start + (2 * d + part) * LANES, 1, LANES)] = read(
                        pool, layer, page, codes + d * LANES, dtype, LANES
                    ) * load(scale, 0, lanes=LANES)
            else:
                for d in T.serial(D):
                    keys[T.ramp(start + (2 * d + part) * LANES, 1, LANES)] = read(
                        pool, layer, page, codes + d * LANES * size, dtype, LANES
                    )

    @T.inline
    def load_block(pool, layer, page, other, page_size, head, offset, other_offset, keys, start):
        half(pool, layer, page, page_size, head, offset, keys, start, 0)
        half(pool, layer, other, page_size, head, other_offset, keys, start, 1)

    return load_block


def _load_int4_keys(pages: Pages) -> Any:
    D, H = pages.dim, pages.dim // 2

    @T.inline
    def half(pool, layer, page, page_size, head, offset, keys, start, step, minimum, part):
        for d in T.serial(H):
            for upper in T.unroll(2):
                keys[T.ramp(start + (2 * (upper * H + d) + part) * LANES, 1, LANES)] = fma(
                    read_nibbles(pool, layer, page, pages.keys(page_size, head, offset) + d * TOKENS, upper, LANES),
                    splat(step[upper * H + d], LANES),
                    splat(minimum[upper * H + d], LANES),
                    LANES,
                )

    @T.inline
    def load_block(pool, layer, page, other, page_size, head, offset, other_offset, keys, start):
        with T.sblock("keys"):
            T.reads()
            T.writes()
            step = T.sblock_alloc_buffer((D,), "float32")
            minimum = T.sblock_alloc_buffer((D,), "float32")
            for c in T.serial(D // LANES):
                step[T.ramp(c * LANES, 1, LANES)] = read(
                    pool, layer, page, pages.key_scale(page_size, head, offset) + 2 * c * LANES, "f16", LANES
                )
                minimum[T.ramp(c * LANES, 1, LANES)] = read(
                    pool, layer, other, pages.key_scale(page_size, head, other_offset) + 2 * c * LANES, "f16", LANES
                )
            half(pool, layer, page, page_size, head, offset, keys, start, step, minimum, 0)
            half(pool, layer, other, page_size, head, other_offset, keys, start, step, minimum, 1)

    return load_block


def _load_values(pages: Pages) -> Any:
    dtype, D = pages.precision.value, pages.dim
    size = code_bytes(dtype, 1)

    @T.inline
    def load_value(pool, layer, page, page_size, head, offset, t, values):
        with T.sblock("value"):
            T.reads()
            T.writes()
            step = T.sblock_alloc_buffer((1,), "float32")
            codes: T.let[T.int64] = pages.value(page_size, head, offset)
            if dtype == "int8":
                step[0] = read_half(pool, layer, page, pages.value_scale(page_size, head, offset))
                for c in T.serial(D // LANES):
                    values[T.ramp(t * D + c * LANES, 1, LANES)] = read(
                        pool, layer, page, codes + c * LANES, dtype, LANES
                    ) * splat(step[0], LANES)
            else:
                for c in T.serial(D // LANES):
                    values[T.ramp(t * D + c * LANES, 1, LANES)] = read(
                        pool, layer, page, codes + c * LANES * size, dtype, LANES
                    )

    return load_value


def _load_int4_values(pages: Pages) -> Any:
    D, H = pages.dim, pages.dim // 2

    @T.inline
    def load_value(pool, layer, page, page_size, head, offset, t, values):
        with T.sblock("value"):
            T.reads()
            T.writes()
            step = T.sblock_alloc_buffer((1,), "float32")
            minimum = T.sblock_alloc_buffer((1,), "float32")
            codes: T.let[T.int64] = pages.value(page_size, head, offset)
            scales: T.let[T.int64] = pages.value_scale(page_size, head, offset)
            step[0] = read_half(pool, layer, page, scales)
            minimum[0] = read_half(pool, layer, page, scales + 2)
            for c in T.serial(H // LANES):
                for upper in T.unroll(2):
                    values[T.ramp(t * D + upper * H + c * LANES, 1, LANES)] = fma(
                        read_nibbles(pool, layer, page, codes + c * LANES, upper, LANES),
                        splat(step[0], LANES),
                        splat(minimum[0], LANES),
                        LANES,
                    )

    return load_value
