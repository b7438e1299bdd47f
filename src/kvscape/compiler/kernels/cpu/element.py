"""One weight of a packed matrix as an f32 expression: for gathers and for the float-activation reference."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.isa import GROUP
from kvscape.compiler.kernels.cpu.vector import Expr
from kvscape.quantization.format import Format


def element(fmt: Format, rows: int, K: int, codes: Any, scales: Any, row: Expr, k: Expr) -> Expr:
    """W[row, k] of a weight packed in blocks of ``rows`` rows (quantization/layouts/blocked.py)."""
    group = T.floordiv(row, rows) * (K // GROUP) + T.floordiv(k, GROUP)
    lane, column = T.floormod(row, rows), T.floormod(k, GROUP)
    parts = 1 if fmt.symmetric else 2
    scale = T.cast(scales[group * parts * rows + lane], "float32")
    if fmt.bits == 8:
        at = (group * (GROUP // 4) + T.floordiv(column, 4)) * rows * 4 + lane * 4 + T.floormod(column, 4)
        return T.cast(T.reinterpret("int8", codes[at]), "float32") * scale
    half = GROUP // 2
    step = T.floordiv(T.floormod(column, half), 4)
    packed = codes[(group * (half // 4) + step) * rows * 4 + lane * 4 + T.floormod(column, 4)]
    shift = T.cast(T.floordiv(column, half) * 4, "uint8")
    code = T.cast(T.bitwise_and(T.shift_right(packed, shift), T.uint8(15)), "float32")
    if fmt.symmetric:
        return (code - T.float32(fmt.max_int)) * scale
    return code * scale + T.cast(scales[(group * parts + 1) * rows + lane], "float32")
