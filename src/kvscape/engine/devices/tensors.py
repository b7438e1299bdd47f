"""Host memory as TVM's kernels expect it: aligned, compact."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvscape.artifact.tensor_file import ALIGNMENT_BYTES
from kvscape.engine.devices.device import FloatArray, IntArray
from kvscape.engine.devices.runtime import tvm

_ALIGNED_INTS = ALIGNMENT_BYTES // 4


def step_tensors(arrays: Sequence[IntArray]) -> list[Any]:
    """Copies of int32 arrays in one new piece of memory: a step has many small ones, and each allocation costs."""
    lengths = [-(-array.size // _ALIGNED_INTS) * _ALIGNED_INTS for array in arrays]
    buffer, start, tensors = _aligned(sum(lengths) * 4).view(np.int32), 0, []
    for array, length in zip(arrays, lengths, strict=True):
        view = buffer[start : start + array.size].reshape(array.shape)
        view[...] = array
        tensors.append(tvm.runtime.from_dlpack(view))
        start += length
    return tensors


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeroed memory: keys not yet written must be finite, for they are multiplied by 0."""
    kind = np.dtype(dtype)
    return tvm.runtime.from_dlpack(_aligned(math.prod(shape) * kind.itemsize).view(kind).reshape(shape))


def numbers(tensor: Any) -> FloatArray:
    """The f32 numbers of a tensor, where they lie."""
    return np.asarray(np.from_dlpack(tensor), np.float32)


def _aligned(nbytes: int) -> Any:
    buffer = np.zeros(nbytes + 2 * ALIGNMENT_BYTES, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT_BYTES
    # numpy leaves the pointer of an empty slice where it was: cut the beginning off first, then the end
    return buffer[start:][:nbytes]
