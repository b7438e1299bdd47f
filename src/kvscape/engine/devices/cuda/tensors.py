"""Small tensors of numbers on a GPU."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from kvscape.engine.devices.cuda.runtime import fitting
from kvscape.engine.devices.device import Draw
from kvscape.engine.devices.host_memory import allocate
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import Block

_ALIGNMENT_BYTES = 256


class CudaMemory:
    """int32 tensors in one piece of the GPU's memory, copied at once: each copy costs the host some microseconds."""

    def __init__(self, device: Any, shapes: Sequence[tuple[int, ...]]) -> None:
        sizes = [4 * math.prod(shape) for shape in shapes]
        gaps = [-size % _ALIGNMENT_BYTES for size in sizes]
        places = [*accumulate((size + gap for size, gap in zip(sizes, gaps, strict=True)), initial=0)]
        self.layout = Struct("=" + "".join(f"{size // 4}i{gap}x" for size, gap in zip(sizes, gaps, strict=True)))
        self.memory = allocate(places[-1])
        with fitting(device.index, "a step's numbers"):
            self._host, self._there = tvm.runtime.from_dlpack(self.memory), empty((places[-1],), "uint8", device)
        self.arrays = [
            self.memory[start : start + size].view(np.int32).reshape(shape)
            for start, size, shape in zip(places, sizes, shapes, strict=False)
        ]
        self.tensors = [
            self._there._create_view(shape, "int32", start) for shape, start in zip(shapes, places, strict=False)
        ]

    def send(self) -> None:
        self._host.copyto(self._there)


class CudaInts:
    """int32 tensors on the GPU, the same ones as long as their shapes are.

    ``arrange`` makes of them the arguments that a function takes.
    """

    def __init__(self, device: Any, arrange: Callable[[Sequence[Any]], Sequence[Any]] = tuple) -> None:
        self._device, self._arrange = device, arrange
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def fill(self, blocks: Sequence[Block]) -> Sequence[Any]:
        """Return the arguments, with the numbers of each block; what was returned before may change."""
        shapes, numbers = zip(*blocks, strict=True)
        if shapes != self._shapes:
            self._shapes, self._ints = shapes, CudaMemory(self._device, shapes)
            self._arguments = self._arrange(self._ints.tensors)
        self._ints.layout.pack_into(self._ints.memory.data, 0, *chain.from_iterable(numbers))
        self._ints.send()
        return self._arguments


class CudaDraws:
    """How tokens are drawn, as the kernel ``sample`` reads it."""

    _FIELDS = "2i4d"
    _MOST = (1 << 31) - 1

    def __init__(self, device: Any) -> None:
        self._device, self._length = device, -1

    def fill(self, draws: Sequence[Draw]) -> Any:
        """Return a tensor int32 [c, 10]; what was returned before may change."""
        if len(draws) != self._length:
            self._layout = Struct("=" + self._FIELDS * len(draws))
            self._memory = CudaMemory(self._device, [(len(draws), self._layout.size // len(draws) // 4)])
            self._length = len(draws)  # when there is memory for it
        fields = ((draw.row, min(draw.top_k, self._MOST), *draw[2:6]) for draw in draws)
        self._layout.pack_into(self._memory.memory.data, 0, *chain.from_iterable(fields))
        self._memory.send()
        return self._memory.tensors[0]


class CudaResult:
    """An int32 tensor that a kernel writes; the same one as long as its shape is."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._shape: tuple[int, ...] = ()

    def of(self, *shape: int) -> Any:
        if shape != self._shape:
            with fitting(self._device.index, "a step's tokens"):
                self._shape, self._tensor = shape, empty(shape, "int32", self._device)
        return self._tensor


def empty(shape: tuple[int, ...], dtype: str, device: Any) -> Any:
    """Memory that holds anything."""
    return tvm.runtime.empty(shape, dtype, device)


def fetched(tensor: Any) -> npt.NDArray[Any]:
    """The numbers of a tensor on the host, once all that was asked of the GPU before is done."""
    array: npt.NDArray[Any] = tensor.numpy()
    return array
