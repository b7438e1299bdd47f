"""Multiplication by a Hadamard matrix of unit length, in place (quantization/kv.py has the reference)."""

from typing import Any

from tvm.script import tirx as T

from kvscape.quantization.kv import rotation_size


def hadamard(dim: int) -> Any:
    """A piece for kernels: ``rotate(x, start)`` turns the ``dim`` f32 numbers of ``x`` from ``start`` on."""
    size = rotation_size(dim)
    stages = size.bit_length() - 1
    length = size**-0.5

    @T.inline
    def rotate(x, start):
        for stage in T.unroll(stages):
            for pair in T.serial(dim // 2):
                with T.sblock("butterfly"):
                    T.reads()
                    T.writes()
                    low: T.let[T.int64] = start + (pair >> stage << (stage + 1)) + pair % (1 << stage)
                    a: T.let[T.float32] = x[low]
                    b: T.let[T.float32] = x[low + (1 << stage)]
                    x[low] = a + b
                    x[low + (1 << stage)] = a - b
        for d in T.serial(dim):
            x[start + d] = x[start + d] * T.float32(length)

    return rotate
