"""What is measured of a GPU, of which all is known: it is a made-up one."""

import pytest

from fake_gpu import BYTES_PER_S, LAUNCH_S, NODE_S, OPERATIONS_PER_S, FakeLibrary, fake_driver
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.bench.gpu_probe import GpuProbe
from kvscape.bench.gpu_timer import GpuTimer
from kvscape.bench.replay import Call, replay
from kvscape.errors import DeviceError


def test_where_nothing_can_be_recorded_launches_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(broken="cuStreamBeginCapture_v2")
    probe = GpuProbe(fake_driver(monkeypatch, library), lambda: library.now)
    assert probe.call_s() == pytest.approx(LAUNCH_S, rel=0.1)
    assert library.held == set()


@pytest.mark.parametrize("free_bytes", [1 << 33, 1 << 22, 0])
def test_a_probe_finds_the_three_limits(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    library = FakeLibrary(free_bytes)
    probe = GpuProbe(fake_driver(monkeypatch, library), lambda: library.now)
    assert probe.copied_bytes_per_s() == pytest.approx(BYTES_PER_S)
    assert probe.operations_per_s() == pytest.approx(OPERATIONS_PER_S)
    assert probe.call_s() == pytest.approx(NODE_S, rel=0.1)
    assert library.held == set()


def test_the_driver_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = GpuProbe(fake_driver(monkeypatch, FakeLibrary(broken="cuMemAlloc_v2")))
    with pytest.raises(DeviceError, match=r"^this GPU cannot be measured: cuMemAlloc_v2: CUDA_ERROR_OUT_OF"):
        probe.copied_bytes_per_s()


def test_the_code_for_the_driver_is_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    library = FakeLibrary()
    library._cuModuleLoadData = lambda module, code: given.append(code)  # type: ignore[attr-defined]
    fake_driver(monkeypatch, library)
    assert given[0].endswith(b"}\n\0")
    assert b".entry products(" in given[0]


def test_each_call_is_timed_by_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary()
    driver: GpuDriver = fake_driver(monkeypatch, library)

    def work(seconds: float) -> None:
        library.now += 1e-6 + seconds

    calls = [Call(f"kernel-{seconds}", work, (seconds,)) for seconds in (3e-6, 0.0, 5e-3)]
    times = replay(calls, lambda _: work(0.0), GpuTimer(driver).timed)
    assert times == pytest.approx([3e-6, 0.0, 5e-3], abs=1e-8)
    assert library.held == set()
