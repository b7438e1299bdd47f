"""Host memory as TVM's kernels expect it: aligned, compact."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from struct import Struct
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.artifact.tensor_file import ALIGNMENT_BYTES
from kvscape.engine.devices.device import FloatArray
from kvscape.engine.devices.host_memory import allocate
from kvscape.engine.devices.runtime import tvm, tvm_ffi

_ALIGNED_INTS = ALIGNMENT_BYTES // 4


Block: TypeAlias = tuple[tuple[int, ...], Sequence[int]]
"""The shape of one tensor, and its numbers row by row."""


class IntTensors:
    """int32 tensors in one piece of memory: a step has many small ones, and each allocation costs.

    They are the same ones as long as their shapes are; those of consecutive decode steps mostly are. ``arrange`` makes
    of them, once, the arguments that a function takes.
    """

    def __init__(self, arrange: Callable[[Sequence[Any]], Sequence[Any]] = tuple) -> None:
        self._arrange = arrange
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def fill(self, blocks: Sequence[Block]) -> Sequence[Any]:
        """Return the arguments, with the numbers of each block; what was returned before may change."""
        shapes, numbers = zip(*blocks, strict=True)
        if shapes != self._shapes:
            self._allocate(shapes)
        self._layout.pack_into(self._memory.data, 0, *chain.from_iterable(numbers))
        return self._arguments

    def _allocate(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        sizes = [math.prod(shape) for shape in shapes]
        gaps = [-size % _ALIGNED_INTS for size in sizes]
        starts = accumulate((size + gap for size, gap in zip(sizes, gaps, strict=True)), initial=0)
        self._shapes = shapes
        self._layout = Struct("=" + "".join(f"{size}i{4 * gap}x" for size, gap in zip(sizes, gaps, strict=True)))
        self._memory = allocate(self._layout.size)
        ints = self._memory.view(np.int32)
        self._arguments = self._arrange(
            [
                tvm.runtime.from_dlpack(ints[start : start + size].reshape(shape))
                for start, size, shape in zip(starts, sizes, shapes, strict=False)
            ]
        )


class IntResult:
    """An int32 vector that a kernel writes, with the host's view of it; the same one as long as its length is."""

    def __init__(self) -> None:
        self._length = -1

    def of(self, length: int) -> tuple[Any, npt.NDArray[np.int32]]:
        """What was returned before may change."""
        if length != self._length:
            self._length = length
            self._array = allocate(4 * length).view(np.int32)
            self._tensor = tvm.runtime.from_dlpack(self._array)
        return self._tensor, self._array


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeroed memory: keys not yet written must be finite, for they are multiplied by 0."""
    kind = np.dtype(dtype)
    return tvm.runtime.from_dlpack(allocate(math.prod(shape) * kind.itemsize).view(kind).reshape(shape))


def tensor_list(tensors: Iterable[Any]) -> Sequence[Any]:
    """Tensors as compiled functions take several: a list of Python's is turned into this at each call."""
    result: Sequence[Any] = tvm_ffi.Array(list(tensors))
    return result


def numbers(tensor: Any) -> FloatArray:
    """The f32 numbers of a tensor, where they lie."""
    return np.asarray(np.from_dlpack(tensor), np.float32)
