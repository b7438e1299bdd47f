"""A GPU whose kernels are the processor's and whose memory is the host's: all else of ``--device cuda:0`` is as it is.

Its driver is ``fake_gpu``'s, its clock that of the work that is asked for.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from fake_gpu import FakeLibrary, fake_driver
from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.compiler.target import detect_target
from kvscape.engine.devices.cuda import CudaDevice
from kvscape.engine.devices.pools import TensorPools
from kvscape.engine.devices.runtime import tvm
from kvscape.engine.devices.tensors import IntTensors, zeros

GPU = Gpu("made up", "sm_90", 4, 80 << 30, "0000:00:00.0")
CUDA = "kvscape.engine.devices.cuda.device"


def pretend_gpu(patch: pytest.MonkeyPatch) -> None:
    """Let ``cuda:0`` be there."""
    patch.setattr(f"{CUDA}.cuda_device", lambda index: tvm.runtime.device("cpu", 0))
    # A processor's kernels take no tensor that begins inside of another one, and multiply what is not yet written by 0.
    patch.setattr(f"{CUDA}.empty", lambda shape, dtype, device: zeros(shape, dtype))
    patch.setattr(f"{CUDA}.CudaInts", lambda device, arrange=tuple: IntTensors(arrange))
    # They allocate their scratch memory themselves, and nobody records them.
    patch.setattr(f"{CUDA}.CudaScratch", _nothing)
    patch.setattr(f"{CUDA}.CudaDevice._new_graphs", _nothing)
    patch.setattr(f"{CUDA}.CudaDevice._call", _call)
    patch.setattr(f"{CUDA}.read_device_code", _nothing)
    patch.setattr(f"{CUDA}.add_device_code", _nothing)
    patch.setattr("kvscape.llm.build.device_target", lambda device: detect_target())
    for module in ("kvscape.results.environment", CUDA, "kvscape.compiler.cuda_target"):
        patch.setattr(f"{module}.gpus", lambda: Gpus((GPU,), driver="580.1"))
    free = iter(range(70 << 30, 0, -(1 << 20)))  # a MiB less each time
    for module in ("kvscape.analysis.free_memory", CUDA):
        patch.setattr(f"{module}.free_gpu_bytes", lambda index: next(free))
    for module in ("kvscape.bench.probe", "kvscape.bench.profile", "kvscape.bench.calibrate"):
        patch.setattr(f"{module}.GpuDriver", lambda index: _driver(patch))


def _call(self: CudaDevice, pools: TensorPools, arguments: Sequence[Any]) -> Any:
    return self._functions[pools.function](*arguments, pools.pages, pools.tails, pools.seen, self._parameters)


def _driver(patch: pytest.MonkeyPatch) -> GpuDriver:
    return fake_driver(patch, FakeLibrary())


def _nothing(*_: Any) -> None:
    pass
