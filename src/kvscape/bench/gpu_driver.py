"""NVIDIA's driver itself, for what measures a GPU: it compiles a small kernel, and needs no toolkit."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvscape.analysis.cuda import gpus
from kvscape.errors import DeviceError

_CODE = Path(__file__).with_suffix(".ptx")
WARP = 32
PRODUCTS = 8  # of a warp in a round
PRODUCT_OPERATIONS = 2 * 16 * 8 * 16
_NON_BLOCKING, _RELAXED = 1, 2  # CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_RELAXED
Launch = Callable[..., None]
"""Launches a kernel, on a stream if one is given."""


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

    def products(self, blocks: int, threads: int, rounds: int, out: ctypes.c_void_p) -> Launch:
        """Launches products on tensor cores, of which ``out`` gets one number."""
        return self._launch("products", blocks, threads, ctypes.c_uint(rounds), out)

    def _launch(self, name: str, blocks: int, threads: int, *arguments: Any) -> Launch:
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(one) for one in arguments))
        shape = [ctypes.c_uint(size) for size in (blocks, 1, 1, threads, 1, 1, 0)]

        def launch(stream: ctypes.c_void_p | None = None, _kept: tuple[Any, ...] = arguments) -> None:
            self.call("cuLaunchKernel", function, *shape, stream, places, None)

        return launch

    @contextmanager
    def recorded(self, launch: Launch, times: int) -> Iterator[Callable[[], None]]:
        """Launches a graph of so many launches, each behind the one before."""
        stream, graph, executable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        launch()  # what is loaded at the first time cannot be recorded
        self.call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        self.call("cuStreamBeginCapture_v2", stream, _RELAXED)
        for _ in range(times):
            launch(stream)
        self.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        self.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        try:
            yield lambda: self.call("cuGraphLaunch", executable, None)
        finally:
            self.synchronize()
            self.call("cuGraphExecDestroy", executable)
            self.call("cuGraphDestroy", graph)
            self.call("cuStreamDestroy_v2", stream)

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
