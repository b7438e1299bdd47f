"""One weight of a packed matrix as an f32 expression: for gathers and for the float-activation reference."""

from collections.abc import Callable
from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.packed import STEPS
from kvscape.compiler.kernels.cpu.vector import Expr
from kvscape.quantization.format import Format


def element(fmt: Format, rows: int, K: int, codes: Any, scales: Any, row: Expr, k: Expr) -> Expr:
    """W[row, k] of a weight packed in blocks of ``rows`` rows (quantization/layouts/blocked.py)."""
    group = T.floordiv(row, rows) * fmt.groups(K) + T.floordiv(k, fmt.group_size)
    lane, column = T.floormod(row, rows), T.floormod(k, fmt.group_size)
    parts = len(fmt.constants)
    scale = T.cast(scales[group * parts * rows + lane], "float32")
    if fmt.bits == 8:
        at = (group * (fmt.group_size // 4) + T.floordiv(column, 4)) * rows * 4 + lane * 4 + T.floormod(column, 4)
        return T.cast(T.reinterpret("int8", codes[at]), "float32") * scale

    def octet(step: Expr) -> Expr:
        return codes[(group * STEPS + step) * rows * 4 + lane * 4 + T.floormod(column, 4)]

    code = T.cast(_code3(octet, column) if fmt.bits == 3 else _code4(octet, column), "float32")
    if fmt.symmetric:
        return (code - T.float32(fmt.max_int)) * scale
    return code * scale + T.cast(scales[(group * parts + 1) * rows + lane], "float32")


def _code4(octet: Callable[[Expr], Expr], column: Expr) -> Expr:
    half = 4 * STEPS
    packed = octet(T.floordiv(T.floormod(column, half), 4))
    shift = T.cast(T.floordiv(column, half) * 4, "uint8")
    return T.bitwise_and(T.shift_right(packed, shift), T.uint8(15))


def _code3(octet: Callable[[Expr], Expr], column: Expr) -> Expr:
    step = T.floordiv(column, 4)
    packed = octet(T.floormod(step, STEPS))
    shift = T.cast(T.floordiv(step, STEPS) * 3, "uint8")
    third = T.shift_right(octet(2), T.cast(T.floormod(step, STEPS) + 4, "uint8"))
    last = T.bitwise_or(T.shift_right(packed, T.uint8(6)), T.bitwise_and(third, T.uint8(4)))
    return T.Select(step < 2 * STEPS, T.bitwise_and(T.shift_right(packed, shift), T.uint8(7)), last)
