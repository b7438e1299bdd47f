"""NVIDIA's driver itself, for what measures a GPU: it compiles two small kernels, and needs no toolkit."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvscape.analysis.cuda import gpus
from kvscape.errors import DeviceError

_CODE = Path(__file__).with_suffix(".ptx")
WARP = 32
PRODUCTS = 8  # of a warp in a round
PRODUCT_OPERATIONS = 2 * 16 * 8 * 16


class GpuDriver:
    """One GPU, in the context that this process has there, or makes. ``library`` is ``libcuda``."""

    def __init__(self, index: int, library: Any = None) -> None:
        self._library = library or ctypes.CDLL("libcuda.so.1")
        self.processors = gpus().found[index].processors
        device, context, self._module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), index)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuModuleLoadData", ctypes.byref(self._module), _CODE.read_bytes() + b"\0")

    def nothing(self) -> Callable[[], None]:
        """Launches a kernel that does nothing."""
        return self._launch("nothing", 1, WARP)

    def products(self, blocks: int, threads: int, rounds: int, out: ctypes.c_void_p) -> Callable[[], None]:
        """Launches products on tensor cores, of which ``out`` gets one number."""
        return self._launch("products", blocks, threads, ctypes.c_uint(rounds), out)

    def _launch(self, name: str, blocks: int, threads: int, *arguments: Any) -> Callable[[], None]:
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(one) for one in arguments))
        shape = [ctypes.c_uint(size) for size in (blocks, 1, 1, threads, 1, 1, 0)]
        whole, ask = (function, *shape, None, places, None), self._library.cuLaunchKernel

        def launch(_kept: tuple[Any, ...] = arguments) -> None:
            if ask(*whole):  # as little of Python as can be, for launches are timed
                self.call("cuLaunchKernel", *whole)

        return launch

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")

    def allocated(self, nbytes: int) -> ctypes.c_void_p:
        place = ctypes.c_void_p()
        self.call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(nbytes))
        return place

    def free(self, *places: ctypes.c_void_p) -> None:
        for place in places:
            self.call("cuMemFree_v2", place)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; raise DeviceError with the driver's name of what went wrong."""
        if status := getattr(self._library, name)(*arguments):
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            known = text.value.decode() if text.value else f"status {status}"
            raise DeviceError("this GPU cannot be measured", f"{name}: {known}", "see 'nvidia-smi'")
