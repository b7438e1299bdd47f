"""CUDA graphs through the driver's own functions: what TVM launches on a stream is recorded and launched at once."""

import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import Any

from kvscape.engine.devices.runtime import tvm_ffi
from kvscape.errors import DeviceError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the recording waits for nothing, and nothing for it
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: memory may be asked for meanwhile


class CudaGraph:
    """Recorded launches, to be done on the stream that TVM uses when nothing else is said."""

    def __init__(self, driver: "CudaDriver", executable: Any) -> None:
        self._driver, self._executable = driver, executable

    def launch(self) -> None:
        self._driver.call("cuGraphLaunch", self._executable, None)

    def __del__(self) -> None:
        self._driver.library.cuGraphExecDestroy(self._executable)


class CudaDriver:
    """Functions of ``libcuda``; raises DeviceError with the driver's name of what went wrong."""

    def __init__(self, library: Any = None) -> None:
        self.library = library if library is not None else ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(status, ctypes.byref(text))
            known = text.value.decode() if text.value else f"status {status}"
            raise DeviceError(f"{name} failed", known, "run on another device, or report it")

    @cached_property
    def stream(self) -> ctypes.c_void_p:
        """A stream to record on: the default one cannot be."""
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        return stream


class CudaRecorder:
    """Records what a function launches through TVM on ``device``."""

    def __init__(self, device: Any, driver: CudaDriver) -> None:
        self._device, self._driver = device, driver

    def __call__(self, run: Callable[[], Any]) -> tuple[Any, CudaGraph]:
        driver, stream, graph, executable = self._driver, self._driver.stream, ctypes.c_void_p(), ctypes.c_void_p()
        try:
            with tvm_ffi.use_raw_stream(self._device, stream.value or 0):
                result = self._recorded(run, stream, graph)
            driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            if graph:
                driver.library.cuGraphDestroy(graph)
        return result, CudaGraph(driver, executable)

    def _recorded(self, run: Callable[[], Any], stream: ctypes.c_void_p, graph: ctypes.c_void_p) -> Any:
        driver = self._driver
        driver.call("cuStreamBeginCapture_v2", stream, _RELAXED)
        try:
            result = run()
        except BaseException:  # the stream is free again
            driver.library.cuStreamEndCapture(stream, ctypes.byref(graph))
            raise
        driver.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        return result
