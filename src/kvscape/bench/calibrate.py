"""This machine's limits in the kernels that models run: ``kvscape doctor --calibrate``."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvscape.analysis.cpu import usable_threads
from kvscape.analysis.device import Device
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.bench.gpu_probe import GpuProbe
from kvscape.bench.host_probe import token_s
from kvscape.bench.probe import best_rate, memory_bytes_per_s, usual_s
from kvscape.bench.webgpu_probe import WebgpuProbe
from kvscape.compiler.cuda_target import detect_cuda_target
from kvscape.config import AdapterName, adapter_name, cuda_index
from kvscape.results import current_environment

if TYPE_CHECKING:
    from kvscape.quantization.format import Format

# Beyond what a processor's caches hold, as most models' weights are.
_BUFFER_BYTES = 256 << 20
_WIDE, _NARROW, _TOKENS = 768, 64, 128


def calibrate(threads: int | None = None, device: str = "cpu") -> Device:
    """Measure in some seconds, compiling three kernels included; the process must not have run a model before.

    Raises DeviceError where there is no such device, ConfigError for more threads than there are.
    """
    if (name := adapter_name(device)) is not None:
        return _adapter(device, name)
    index = cuda_index(device)
    return _processor(threads) if index is None else _gpu(device, index)


def _gpu(name: str, index: int) -> Device:
    """All its products are of f16 numbers; no thread of the host makes them faster."""
    detect_cuda_target(name, index)
    probe = GpuProbe(GpuDriver(index))
    rate = probe.operations_per_s()
    machine = current_environment(name).machine
    return Device(machine, 1, probe.copied_bytes_per_s(), rate, rate, probe.call_s(), token_s())


def _adapter(device: str, name: AdapterName) -> Device:
    """All its products are of f32 numbers."""
    probe = WebgpuProbe(device, name)
    rate = probe.operations_per_s()
    machine = current_environment(device).machine
    return Device(machine, 1, probe.copied_bytes_per_s(), rate, rate, probe.call_s(), token_s())


def _processor(threads: int | None) -> Device:
    count = usable_threads(threads)
    os.environ["TVM_NUM_THREADS"] = str(count)
    kernels = _compiled()
    products = 2.0 * _TOKENS * _WIDE**2
    return Device(
        machine=current_environment().machine,
        threads=count,
        memory_bytes_per_s=memory_bytes_per_s(_BUFFER_BYTES, count),
        integer_operations_per_s=products * best_rate(kernels["integer"]),
        float_operations_per_s=products * best_rate(kernels["float"]),
        call_s=usual_s(kernels["call"]),
        token_s=token_s(),
    )


def _compiled() -> dict[str, Callable[[], object]]:
    """Kernels for this processor with their arguments: products of integers, of floats, and of next to nothing."""
    import tvm
    from tvm.target import Target

    from kvscape.compiler.kernels.cpu.float_matmul import float_matmul
    from kvscape.compiler.kernels.cpu.int8_matmul import int8_matmul
    from kvscape.compiler.kernels.cpu.isa import ISAS
    from kvscape.compiler.pipeline import lowering
    from kvscape.compiler.target import detect_target
    from kvscape.quantization.format import FORMATS

    target, q8, f16 = detect_target(), FORMATS["q8f16_1"], FORMATS["f16"]
    isa = ISAS[target.name]
    functions = {
        "integer": int8_matmul(isa, q8, _WIDE, _WIDE),
        "float": float_matmul(isa.rows, f16, _WIDE, _WIDE),
        "call": int8_matmul(isa, q8, _NARROW, _NARROW),
    }
    arguments = {
        "integer": _integer_arguments(q8, _TOKENS, _WIDE),
        "float": [np.zeros((_WIDE // isa.rows, _WIDE, isa.rows), np.float16), *_floats(_TOKENS, 2)],
        "call": _integer_arguments(q8, 1, _NARROW),
    }
    mod = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
    with lowering():
        built = tvm.compile(mod, target=Target(dict(target.llvm)))
    return {name: _bound(built[name], arguments[name]) for name in functions}


def _integer_arguments(fmt: "Format", tokens: int, size: int) -> list[Any]:
    """Codes, scales, activations with their scales and sums, and the result, of a square matrix."""
    groups = fmt.groups(size)
    return [
        np.zeros(size * groups * fmt.words_per_group * 4, np.uint8),
        np.zeros(size * groups, fmt.scale_dtype),
        np.zeros((tokens, size), np.int8),
        np.zeros((tokens, groups), np.float32),
        np.zeros((tokens, groups), np.int32),
        np.zeros((tokens, size), np.float32),
    ]


def _floats(tokens: int, count: int) -> list[Any]:
    return [np.zeros((tokens, _WIDE), np.float32) for _ in range(count)]


def _bound(function: Callable[..., object], arrays: Sequence[Any]) -> Callable[[], object]:
    import tvm

    tensors = [tvm.runtime.tensor(array) for array in arrays]
    return lambda: function(*tensors)
