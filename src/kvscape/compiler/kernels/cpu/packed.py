"""Codes out of the packed layout (quantization/layouts/blocked.py): four columns of all rows of a block at once."""

from typing import Any

from tvm.script import tirx as T

from kvscape.compiler.kernels.cpu.vector import Expr, load, splat

STEPS = 4  # vectors of bytes that hold a group's codes of 3 or 4 bits


def unsigned_steps(bits: int, codes: Any, at: Expr, nbytes: int) -> list[tuple[int, Expr]]:
    """(first column of the group, codes u8) for each step of a group of 4-bit or 3-bit codes, ``nbytes`` at once."""
    packed = [load(codes, at + step * nbytes, lanes=nbytes) for step in range(STEPS)]
    low = [(4 * i, _masked(step, 2**bits - 1, nbytes)) for i, step in enumerate(packed)]
    if bits == 4:
        return low + [(16 + 4 * i, _shifted(step, 4, nbytes)) for i, step in enumerate(packed)]
    middle = [(16 + 4 * i, _masked(_shifted(step, 3, nbytes), 7, nbytes)) for i, step in enumerate(packed)]
    return low + middle + [(32 + 4 * i, _last3(packed, i, nbytes)) for i in range(2)]


def signed_step(codes: Any, at: Expr, step: int, nbytes: int) -> Expr:
    """The 8-bit codes of the columns from 4 x step on, i8."""
    return T.reinterpret(f"int8x{nbytes}", load(codes, at + step * nbytes, lanes=nbytes))


def _last3(packed: list[Expr], i: int, nbytes: int) -> Expr:
    """3-bit codes of the columns from 32 + 4 i on: two bits lie in step i, the third in step 2."""
    third = _masked(_shifted(packed[2], 4 + i, nbytes), 4, nbytes)
    return T.bitwise_or(_shifted(packed[i], 6, nbytes), third)


def _masked(value: Expr, mask: int, nbytes: int) -> Expr:
    return T.bitwise_and(value, splat(T.uint8(mask), nbytes))


def _shifted(value: Expr, bits: int, nbytes: int) -> Expr:
    return T.shift_right(value, splat(T.uint8(bits), nbytes))
