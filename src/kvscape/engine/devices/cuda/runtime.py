"""TVM's runtime for NVIDIA GPUs: a library of its own, which needs the driver's."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from kvscape.analysis.gpu_memory import free_gpu_bytes
from kvscape.artifact.device_code import DeviceCode
from kvscape.engine.devices.runtime import tvm
from kvscape.errors import CapacityError, DeviceError

_LIBRARY = "libtvm_runtime_cuda.so"


def cuda_device(index: int) -> Any:
    """TVM's device; raise DeviceError where it cannot run."""
    _load(index)
    device = tvm.runtime.device("cuda", index)
    if not device.exist:
        raise DeviceError(f"device 'cuda:{index}' cannot run here", "there is no such GPU", "use --device cpu")
    return device


def add_device_code(module: Any, code: DeviceCode) -> None:
    """Let the host's half of a library find what it launches."""
    functions = tvm.get_global_func("runtime.LoadMetaDataFromJSON")(code.functions)
    kernels = tvm.get_global_func("ffi.Module.create.cuda")(code.cubin, "cubin", functions, {})
    (host,) = module.imports
    host.import_module(kernels)


@contextmanager
def fitting(index: int, what: str) -> Iterator[None]:
    """Raise CapacityError where the GPU's memory does not hold ``what`` is allocated inside."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error).lower().replace("_", " "):  # the runtime's words, the driver's names
            raise
        raise too_large(index, what) from None


def too_large(index: int, what: str) -> CapacityError:
    """What is said where the GPU's memory does not hold ``what``."""
    free = f"{free_gpu_bytes(index) / 2**20:,.0f} MiB are free"
    do = "use a smaller batch, context or quantization, or end what else runs there"
    return CapacityError(f"out of memory on cuda:{index} for {what}", free, do)


@cache
def _load(index: int) -> None:
    folder = Path(tvm.__file__).parent / "lib"
    try:
        ctypes.CDLL(str(folder / _LIBRARY), ctypes.RTLD_GLOBAL)
    except OSError as error:
        why = str(error).splitlines()[0]
        raise DeviceError(f"device 'cuda:{index}' cannot run here", why, "use --device cpu") from None
