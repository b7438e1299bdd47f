"""Addresses for a GPU's buffers, which have none: TVM's machine computes with them, nothing reads what is there."""

import ctypes
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.webgpu.gpu import WebgpuGpu

_FIRST = 1 << 60  # no host has memory there
_GAP = 1 << 16
_WRITE_BYTES = 32 << 20  # a driver keeps a copy of what is written until it is there


@dataclass(frozen=True)
class Allocation:
    """Addresses from ``start`` on, in parts of ``part_bytes`` that have a buffer each."""

    start: int
    nbytes: int
    part_bytes: int
    buffers: tuple[Any, ...]

    def place(self, address: int) -> tuple[Any, int]:
        """The buffer and the offset of an address."""
        part, offset = divmod(address - self.start, self.part_bytes)
        return self.buffers[part], offset


@dataclass(frozen=True)
class _Interface:
    """An array of numpy's that begins at an address of ours."""

    __array_interface__: dict[str, Any]


class WebgpuMemory:
    """Allocations by address; tensors of the host that a library brings along are copied once."""

    def __init__(self, gpu: WebgpuGpu) -> None:
        self.gpu = gpu
        self._next = _FIRST
        self._starts: list[int] = []
        self._allocations: dict[int, Allocation] = {}
        self._constants: dict[int, Any] = {}

    def allocate(self, nbytes: int, what: str, part_bytes: int | None = None) -> Allocation:
        """Raise CapacityError if a part is larger than the GPU binds."""
        size = part_bytes or max(nbytes, 1)
        parts = [min(size, nbytes - first) for first in range(0, max(nbytes, 1), size)]
        buffers = tuple(self.gpu.buffer(part, what) for part in parts)
        allocation = Allocation(self._next, nbytes, size, buffers)
        self._next += (nbytes + 2 * _GAP) // _GAP * _GAP
        self._starts.append(allocation.start)
        self._allocations[allocation.start] = allocation
        return allocation

    def free(self, allocation: Allocation) -> None:
        """Forget an allocation; its buffers go when nobody uses them any more."""
        self._starts.remove(allocation.start)
        del self._allocations[allocation.start]

    def place(self, address: int, nbytes: int) -> tuple[Any, int]:
        """The buffer and the offset of a tensor; ``nbytes`` must be known for one that lies in the host's memory."""
        if address < _FIRST:
            return self._constant(address, nbytes), 0
        return self._allocations[self._starts[bisect_right(self._starts, address) - 1]].place(address)

    def write(self, allocation: Allocation, array: np.ndarray[Any, Any]) -> None:
        data, size = array.reshape(-1).view(np.uint8), allocation.part_bytes
        for index, buffer in enumerate(allocation.buffers):
            for offset, piece in _pieces(data[index * size : (index + 1) * size]):
                self.gpu.queue.write_buffer(buffer, offset, piece)
                self.gpu.queue.submit([])

    def _constant(self, address: int, nbytes: int) -> Any:
        if address not in self._constants:
            buffer = self.gpu.buffer(nbytes, "a constant")
            self.gpu.queue.write_buffer(buffer, 0, ctypes.string_at(address, nbytes))
            self._constants[address] = buffer
        return self._constants[address]


def _pieces(data: np.ndarray[Any, Any]) -> Iterator[tuple[int, Any]]:
    """Offsets and bytes, of whole words."""
    for offset in range(0, len(data), _WRITE_BYTES):
        piece = data[offset : offset + _WRITE_BYTES]
        yield offset, np.pad(piece, (0, -len(piece) % 4)) if len(piece) % 4 else np.ascontiguousarray(piece)


def tensor_at(address: int, shape: tuple[int, ...], dtype: str) -> Any:
    """A tensor as TVM's machine takes it; nothing may read it."""
    described = {"data": (address, False), "shape": shape, "typestr": np.dtype(dtype).str, "version": 3}
    return tvm.runtime.from_dlpack(np.asarray(_Interface(described)))


def address_of(tensor: Any) -> int:
    return int(tensor.data_ptr())
