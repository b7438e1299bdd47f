"""WebGPU kernels called with numpy arrays, on this machine's first adapter: a software driver where there is no GPU."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from tvm.target import Target

from kvscape.analysis.adapters import adapters
from kvscape.compiler.pipeline import lowering
from kvscape.compiler.shaders import shaders_of
from kvscape.compiler.webgpu_target import WGSL
from kvscape.engine.devices.webgpu.gpu import WebgpuGpu
from kvscape.engine.devices.webgpu.memory import WebgpuMemory, tensor_at
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.engine.devices.webgpu.recorder import WebgpuRecorder

Array = npt.NDArray[Any]
needs_adapter = pytest.mark.skipif(
    not adapters().found, reason=f"shaders are compiled but not run: {adapters().obstacle}"
)


@cache
def first_gpu() -> WebgpuGpu:
    return WebgpuGpu(adapters().found[0])


class ShaderKernels:
    """``kernels(name, inputs, outputs)`` runs one and returns its outputs, which hold garbage before; an input may be a
    tensor of ``tensor``, which keeps what is written."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        mod = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
        with lowering():
            self._functions = tvm.compile(mod, target=Target(dict(WGSL.tvm)))
        self._memory = WebgpuMemory(first_gpu())
        self._recorder = WebgpuRecorder(self._memory, shaders_of(functions.values()).of)
        self._player = WebgpuPlayer(self._memory)

    def __call__(self, name: str, inputs: Sequence[Any], outputs: Sequence[tuple[tuple[int, ...], str]]) -> list[Array]:
        arguments = [self.tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
        garbage = [np.frombuffer(b"\x7b" * (int(np.prod(s)) * np.dtype(d).itemsize), d).reshape(s) for s, d in outputs]
        results = [self.tensor(array) for array in garbage]
        recording = self._recorder.record(name, lambda: self._functions[name](*arguments, *results))
        self._player.play(recording.dispatches)
        return [self.numpy(result) for result in results]

    def tensor(self, array: Array, part_bytes: int | None = None) -> Any:
        allocation = self._memory.allocate(array.nbytes, "a test", part_bytes)
        self._memory.write(allocation, array)
        return tensor_at(allocation.start, array.shape, str(array.dtype))

    def numpy(self, tensor: Any) -> Array:
        dtype, shape = np.dtype(str(tensor.dtype)), tuple(map(int, tensor.shape))
        data = self._player.fetch(tensor.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape)

    def rows(self, tensor: Any) -> list[Array]:
        """What lies in each of the parts of a tensor that has one for each row of its first axis."""
        count, *shape = map(int, tensor.shape)
        nbytes = int(np.prod(shape)) * np.dtype(str(tensor.dtype)).itemsize
        starts = [tensor.data_ptr() + index * nbytes for index in range(count)]
        return [self.numpy(tensor_at(start, tuple(shape), str(tensor.dtype))) for start in starts]


def error(out: Array, reference: Array) -> float:
    return float(np.linalg.norm(out.astype(np.float64) - reference) / np.linalg.norm(reference))
