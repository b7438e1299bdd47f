"""NVIDIA's driver without a GPU: it takes as long as a made-up one would, by a clock of its own."""

import ctypes
from typing import Any

import pytest

from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.bench.gpu_driver import GpuDriver

BYTES_PER_S, OPERATIONS_PER_S, LAUNCH_S, NODE_S = 3e12, 6e14, 5e-6, 2e-6


class FakeLibrary:
    """``libcuda``; ``now`` is the time when all that was asked for is done. Calls named in ``broken`` fail."""

    def __init__(self, free_bytes: int = 1 << 33, broken: str = "") -> None:
        self.free_bytes, self.broken = free_bytes, broken
        self.now = 0.0
        self.held: set[int] = set()
        self._places = iter(range(1, 10**6))
        self._events: dict[int, float] = {}
        self._recorded_s: float | None = None
        self._graphs: dict[int, float] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: 2 if name == self.broken else getattr(self, f"_{name}", _nothing)(*arguments) or 0

    def _cuGetErrorName(self, status: int, text: Any) -> None:  # noqa: N802
        text._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:  # noqa: N802
        free._obj.value = self.free_bytes

    def _cuMemAlloc_v2(self, place: Any, nbytes: Any) -> int:  # noqa: N802
        place._obj.value = next(self._places)
        self.held.add(place._obj.value)
        return 0

    def _cuMemFree_v2(self, place: Any) -> None:  # noqa: N802
        self.held.remove(place.value)

    def _cuMemcpyDtoDAsync_v2(self, there: Any, here: Any, nbytes: Any, stream: None) -> None:  # noqa: N802
        self.now += 2 * nbytes.value / BYTES_PER_S

    def _cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> None:  # noqa: N802
        function._obj.value = 1

    def _cuLaunchKernel(self, function: Any, blocks: Any, *rest: Any) -> None:  # noqa: N802
        _, _, threads, _, _, _, stream, places, _ = rest
        rounds = ctypes.cast(places[0], ctypes.POINTER(ctypes.c_uint)).contents.value
        work_s = blocks.value * threads.value / 32 * rounds * 8 * 4096 / OPERATIONS_PER_S
        if stream is None:
            self.now += max(LAUNCH_S, work_s)
        else:
            assert self._recorded_s is not None
            self._recorded_s += max(NODE_S, work_s)

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:  # noqa: N802
        stream._obj.value = next(self._places)

    def _cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> None:  # noqa: N802
        self._recorded_s = 0.0

    def _cuStreamEndCapture(self, stream: Any, graph: Any) -> None:  # noqa: N802
        graph._obj.value = next(self._places)

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> None:  # noqa: N802
        assert self._recorded_s is not None
        executable._obj.value = next(self._places)
        self.held.add(executable._obj.value)
        self._graphs[executable._obj.value], self._recorded_s = self._recorded_s, None

    def _cuGraphLaunch(self, executable: Any, stream: None) -> None:  # noqa: N802
        self.now += self._graphs[executable.value]

    def _cuGraphExecDestroy(self, executable: Any) -> None:  # noqa: N802
        self.held.remove(executable.value)

    def _cuEventCreate(self, event: Any, flags: int) -> None:  # noqa: N802
        event._obj.value = next(self._places)

    def _cuEventRecord(self, event: Any, stream: None) -> None:  # noqa: N802
        self._events[event.value] = self.now

    def _cuEventElapsedTime(self, elapsed_ms: Any, start: Any, end: Any) -> None:  # noqa: N802
        elapsed_ms._obj.value = 1e3 * (self._events[end.value] - self._events[start.value])


def _nothing(*_: Any) -> int:
    return 0


def fake_driver(monkeypatch: pytest.MonkeyPatch, library: FakeLibrary) -> GpuDriver:
    monkeypatch.setattr("kvscape.bench.gpu_driver.gpus", lambda: Gpus((Gpu("made up", "sm_90", 100),)))
    return GpuDriver(0, library)
