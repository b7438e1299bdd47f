"""Small tensors of numbers on a GPU."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from struct import Struct
from typing import Any

import numpy.typing as npt

from kvscape.engine.devices.host_memory import allocate
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import Block

_ALIGNMENT_BYTES = 256


class CudaInts:
    """int32 tensors in one piece of the GPU's memory, copied at once: each copy costs the host some microseconds.

    They are the same ones as long as their shapes are. ``arrange`` makes of them the arguments that a function takes.
    """

    def __init__(self, device: Any, arrange: Callable[[Sequence[Any]], Sequence[Any]] = tuple) -> None:
        self._device, self._arrange = device, arrange
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def fill(self, blocks: Sequence[Block]) -> Sequence[Any]:
        """Return the arguments, with the numbers of each block; what was returned before may change."""
        shapes, numbers = zip(*blocks, strict=True)
        if shapes != self._shapes:
            self._allocate(shapes)
        self._layout.pack_into(self._memory.data, 0, *chain.from_iterable(numbers))
        self._host.copyto(self._there)
        return self._arguments

    def _allocate(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        sizes = [4 * math.prod(shape) for shape in shapes]
        gaps = [-size % _ALIGNMENT_BYTES for size in sizes]
        starts = accumulate((size + gap for size, gap in zip(sizes, gaps, strict=True)), initial=0)
        self._shapes = shapes
        self._layout = Struct("=" + "".join(f"{size // 4}i{gap}x" for size, gap in zip(sizes, gaps, strict=True)))
        self._memory = allocate(self._layout.size)
        self._host = tvm.runtime.from_dlpack(self._memory)
        self._there = empty((self._layout.size,), "uint8", self._device)
        views = [self._there._create_view(shape, "int32", start) for shape, start in zip(shapes, starts, strict=False)]
        self._arguments = self._arrange(views)


class CudaResult:
    """An int32 vector that a kernel writes; the same one as long as its length is."""

    def __init__(self, device: Any) -> None:
        self._device, self._length = device, -1

    def of(self, length: int) -> Any:
        if length != self._length:
            self._length, self._tensor = length, empty((length,), "int32", self._device)
        return self._tensor


def empty(shape: tuple[int, ...], dtype: str, device: Any) -> Any:
    """Memory that holds anything."""
    return tvm.runtime.empty(shape, dtype, device)


def fetched(tensor: Any) -> npt.NDArray[Any]:
    """The numbers of a tensor on the host, once all that was asked of the GPU before is done."""
    array: npt.NDArray[Any] = tensor.numpy()
    return array
