"""TVM's runtime for NVIDIA GPUs: a library of its own, which needs the driver's."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from kvscape.artifact.device_code import DeviceCode
from kvscape.engine.devices.runtime import tvm
from kvscape.errors import DeviceError

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


def free_memory_bytes(index: int) -> int:
    """Bytes of the GPU's memory that nobody has."""
    with_free = tvm.get_global_func("runtime.GetCudaFreeMemory")
    return int(with_free(cuda_device(index))[0])


@cache
def _load(index: int) -> None:
    folder = Path(tvm.__file__).parent / "lib"
    try:
        ctypes.CDLL(str(folder / _LIBRARY), ctypes.RTLD_GLOBAL)
    except OSError as error:
        why = str(error).splitlines()[0]
        raise DeviceError(f"device 'cuda:{index}' cannot run here", why, "use --device cpu") from None
