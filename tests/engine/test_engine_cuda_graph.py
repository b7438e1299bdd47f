"""What is asked of the CUDA driver to record launches, in which order, and what is left when it fails."""

import ctypes
from typing import Any

import pytest

from kvscape.engine.devices.cuda import graph
from kvscape.engine.devices.cuda.graph import CudaDriver, CudaRecorder
from kvscape.errors import DeviceError


class FakeLibrary:
    """Notes its calls; those in ``failing`` return status 901. Objects that it makes are numbered from 1."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.calls, self._made = failing, list[str](), 0

    def noted(self, name: str) -> str:
        self.calls.append(name)
        return name

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> int:
            self.noted(name)
            if name in self.failing:
                return 901
            if name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
            for argument in arguments:
                if hasattr(argument, "_obj") and isinstance(argument._obj, ctypes.c_void_p):
                    self._made += 1
                    argument._obj.value = self._made
            return 0

        return called


class Streams(list[Any]):
    """Stands for tvm_ffi: notes the streams that were current."""

    def use_raw_stream(self, device: Any, stream: int) -> "Streams":
        self.append((device, stream))
        return self

    def __enter__(self) -> None:
        self.append("begin")

    def __exit__(self, *_: Any) -> None:
        self.append("end")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    streams = Streams()
    monkeypatch.setattr(graph, "tvm_ffi", streams)
    return streams


def test_launches_are_recorded_on_a_stream_of_their_own(streams: Streams) -> None:
    library = FakeLibrary()
    recorder = CudaRecorder("gpu", CudaDriver(library))
    result, graph = recorder(lambda: library.noted("launches"))
    assert (result, streams) == ("launches", [("gpu", 1), "begin", "end"])
    graph.launch()
    graph.launch()
    recorded = ["cuStreamBeginCapture_v2", "launches", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
    assert library.calls == ["cuStreamCreate", *recorded, "cuGraphDestroy", "cuGraphLaunch", "cuGraphLaunch"]
    del graph
    assert library.calls[-1] == "cuGraphExecDestroy"
    recorder(lambda: None)
    assert library.calls.count("cuStreamCreate") == 1


def test_the_stream_is_free_again_after_launches_that_raised(streams: Streams) -> None:
    library = FakeLibrary()
    with pytest.raises(ZeroDivisionError):
        CudaRecorder("gpu", CudaDriver(library))(lambda: 1 // 0)
    assert library.calls == ["cuStreamCreate", "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]
    assert streams[-1] == "end"


@pytest.mark.parametrize(
    ("failing", "what"),
    [
        ("cuStreamCreate", "cuStreamCreate failed"),
        ("cuStreamBeginCapture_v2", "cuStreamBeginCapture_v2 failed"),
        ("cuStreamEndCapture", "cuStreamEndCapture failed"),
        ("cuGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags failed"),
        ("cuGraphLaunch", "cuGraphLaunch failed"),
    ],
)
def test_the_drivers_errors_have_their_names(streams: Streams, failing: str, what: str) -> None:
    library = FakeLibrary(failing)
    with pytest.raises(DeviceError, match=f"{what}.*CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        CudaRecorder("gpu", CudaDriver(library))(lambda: None)[1].launch()
    assert ("cuGraphDestroy" in library.calls) == (failing in ("cuGraphInstantiateWithFlags", "cuGraphLaunch"))
