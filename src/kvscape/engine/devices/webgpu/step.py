"""The numbers of a step in one buffer of a GPU, written at once."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from struct import Struct
from typing import Any

from kvscape.engine.devices.device import IntArray
from kvscape.engine.devices.tensors import Block
from kvscape.engine.devices.webgpu.memory import Allocation, WebgpuMemory, tensor_at

_LEAST_BYTES = 256  # also what offsets are multiples of


class WebgpuInts:
    """int32 tensors that lie where they lay before as long as they have room there; ``generation`` says since when."""

    def __init__(self, memory: WebgpuMemory, arrange: Callable[[Sequence[Any]], Sequence[Any]] = tuple) -> None:
        self._memory, self._arrange = memory, arrange
        self._rooms: tuple[int, ...] = ()
        self._allocation: Allocation | None = None
        self.generation = 0

    def write(self, blocks: Sequence[Block]) -> tuple[tuple[int, ...], ...]:
        """Write the numbers of each block; return the shapes."""
        shapes, numbers = zip(*blocks, strict=True)
        sizes = self._placed([4 * math.prod(shape) for shape in shapes])
        layout = Struct(
            "=" + "".join(f"{size // 4}i{room - size}x" for size, room in zip(sizes, self._rooms, strict=True))
        )
        self._send(layout.pack(*chain.from_iterable(numbers)))
        found: tuple[tuple[int, ...], ...] = shapes
        return found

    def write_arrays(self, arrays: Sequence[IntArray]) -> tuple[tuple[int, ...], ...]:
        """The same of arrays: packing many numbers of Python's takes long."""
        sizes = self._placed([array.nbytes for array in arrays])
        gaps = [bytes(room - size) for size, room in zip(sizes, self._rooms, strict=True)]
        self._send(b"".join(chain.from_iterable(zip((array.tobytes() for array in arrays), gaps, strict=True))))
        return tuple(array.shape for array in arrays)

    def _placed(self, sizes: list[int]) -> list[int]:
        if len(sizes) != len(self._rooms) or any(map(int.__gt__, sizes, self._rooms)):
            self._allocate(sizes)
        return sizes

    def _send(self, data: bytes) -> None:
        assert self._allocation is not None
        self._memory.gpu.queue.write_buffer(self._allocation.buffers[0], 0, data)

    def arguments(self, shapes: tuple[tuple[int, ...], ...]) -> Sequence[Any]:
        """The tensors, as the function takes them."""
        assert self._allocation is not None
        starts = accumulate(self._rooms, initial=self._allocation.start)
        return self._arrange([tensor_at(start, shape, "int32") for start, shape in zip(starts, shapes, strict=False)])

    def _allocate(self, sizes: Sequence[int]) -> None:
        """Room for each block: what it had, or the next power of two."""
        before = self._rooms or (_LEAST_BYTES,) * len(sizes)
        if self._allocation is not None:
            self._memory.free(self._allocation)
        self._rooms = tuple(map(_room, sizes, before))
        self._allocation = self._memory.allocate(sum(self._rooms), "a step")
        self.generation += 1


def _room(size: int, before: int) -> int:
    return before if size <= before else 1 << (size - 1).bit_length()
