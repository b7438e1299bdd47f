"""How one token's key or value is rounded into its page; each is a piece ``store(pool, layer, page, x, codes, scale)``.

``x`` is a buffer of f32 [dim] that may be changed, ``codes`` and ``scale`` are the bytes where the codes and what
belongs to them begin. quantization/kv.py is the reference.
"""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.hadamard import hadamard
from kvscape.compiler.kernels.cpu.vector import Expr
from kvscape.quantization.kv import INT4_STEPS, INT8_MAX

_FLOATS = {"f32": ("float32", 4), "f16": ("float16", 2)}


def store_token(dtype: str, dim: int, stride: int) -> Any:
    """The piece for a precision that rounds tokens by themselves; dimensions are ``stride`` codes apart."""
    if dtype in _FLOATS:
        return _store_floats(dtype, dim, stride)
    return _store_int8(dim, stride) if dtype == "int8" else _store_int4(dim)


def _store_floats(dtype: str, dim: int, stride: int) -> Any:
    kind, size = _FLOATS[dtype]

    @T.inline
    def store(pool, layer, page, x, codes, scale):
        for d in T.serial(dim):
            pool[layer, page, T.ramp(codes + d * stride * size, 1, size)] = T.reinterpret(
                f"uint8x{size}", T.cast(x[d], kind)
            )

    return store


def _store_int8(dim: int, stride: int) -> Any:
    @T.inline
    def store(pool, layer, page, x, codes, scale):
        with T.sblock("int8"):
            T.reads()
            T.writes()
            peak = T.sblock_alloc_buffer((1,), "float32")
            step = T.sblock_alloc_buffer((1,), "float16")
            peak[0] = T.float32(0)
            for d in T.serial(dim):
                peak[0] = T.max(peak[0], T.fabs(x[d]))
            step[0] = T.cast(peak[0] / T.float32(INT8_MAX), "float16")
            pool[layer, page, T.ramp(scale, 1, 2)] = T.reinterpret("uint8x2", step[0])
            for d in T.serial(dim):
                pool[layer, page, codes + d * stride] = T.reinterpret("uint8", signed_code(x[d], step[0]))

    return store


def _store_int4(dim: int) -> Any:
    rotate = hadamard(dim)

    @T.inline
    def store(pool, layer, page, x, codes, scale):
        with T.sblock("int4"):
            T.reads()
            T.writes()
            low = T.sblock_alloc_buffer((1,), "float32")
            high = T.sblock_alloc_buffer((1,), "float32")
            minimum = T.sblock_alloc_buffer((1,), "float16")
            step = T.sblock_alloc_buffer((1,), "float16")
            rotate(x, T.int64(0))
            low[0] = x[0]
            high[0] = x[0]
            for d in T.serial(dim):
                low[0] = T.min(low[0], x[d])
                high[0] = T.max(high[0], x[d])
            minimum[0] = T.cast(low[0], "float16")
            step[0] = int4_step(high[0], minimum[0])
            pool[layer, page, T.ramp(scale, 1, 2)] = T.reinterpret("uint8x2", step[0])
            pool[layer, page, T.ramp(scale + 2, 1, 2)] = T.reinterpret("uint8x2", minimum[0])
            for d in T.serial(dim // 2):
                pool[layer, page, codes + d] = nibbles(
                    int4_code(x[d], step[0], minimum[0]), int4_code(x[dim // 2 + d], step[0], minimum[0])
                )

    return store


def signed_code(x: Expr, step: Expr) -> Expr:
    ratio = T.Select(step > T.float16(0), x / T.cast(step, "float32"), T.float32(0))
    return T.cast(T.max(T.min(T.nearbyint(ratio), T.float32(INT8_MAX)), T.float32(-INT8_MAX)), "int8")


def int4_step(high: Expr, minimum: Expr) -> Expr:
    return T.cast((high - T.cast(minimum, "float32")) / T.float32(INT4_STEPS), "float16")


def int4_code(x: Expr, step: Expr, minimum: Expr) -> Expr:
    ratio = (x - T.cast(minimum, "float32")) / T.cast(step, "float32")
    ratio = T.Select(step > T.float16(0), ratio, T.float32(0))
    return T.cast(T.max(T.min(T.nearbyint(ratio), T.float32(INT4_STEPS)), T.float32(0)), "uint8")


def nibbles(low: Expr, high: Expr) -> Expr:
    """A byte of two codes."""
    return low | T.shift_left(high, T.uint8(4))
