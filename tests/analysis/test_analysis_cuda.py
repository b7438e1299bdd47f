"""What a driver says of its GPUs; the driver is a fake one."""

from pathlib import Path
from typing import Any

import pytest

from kvscape.analysis.cuda import Gpu, Gpus, ask
from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.analysis.gpu_memory import ask_free, free_gpu_bytes


class FakeDriver:
    """Answers as NVIDIA's does: status numbers, and results through pointers."""

    def __init__(self, *found: tuple[str, int, int, int], status: int = 0) -> None:
        self.found, self.status = found, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.found)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
        name.value = self.found[device.value][0].encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:  # noqa: N802
        value._obj.value = self.found[device.value][{75: 1, 76: 2, 16: 3}[number]]
        return 0

    def cuDeviceTotalMem_v2(self, nbytes: Any, device: Any) -> int:  # noqa: N802
        nbytes._obj.value = 1000 * (device.value + 1)
        return 0

    def cuDeviceGetPCIBusId(self, bus: Any, length: int, device: Any) -> int:  # noqa: N802
        bus.value = f"0000:{device.value:02d}:00.0".encode()
        return 0


class FakeManagement:
    """Answers as NVIDIA's management library does: GPUs by their place on the bus."""

    def __init__(self, free: dict[str, int]) -> None:
        self.free = free

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: bytes, handle: Any) -> int:  # noqa: N802
        handle._obj.value = self.free.get(bus.decode(), 0)
        return 0 if bus.decode() in self.free else 6

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total, memory._obj.free, memory._obj.used = 80, handle.value, 7
        return 0


GPUS = (Gpu("H100", "sm_90", 132, 1000, "0000:00:00.0"), Gpu("A10", "sm_86", 72, 2000, "0000:01:00.0"))


def test_each_gpu_has_a_name_an_architecture_processors_memory_and_a_place(tmp_path: Path) -> None:
    driver = FakeDriver(("H100", 9, 0, 132), ("A10", 8, 6, 72))
    assert ask(driver, tmp_path / "none") == Gpus(GPUS)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build", "580.159.04"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57  Tue", "470.57"),
        ("nothing", ""),
    ],
)
def test_the_driver_has_a_version(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(text)
    assert ask(FakeDriver(), tmp_path / "version").driver == version


def test_a_driver_that_does_not_start_says_so(tmp_path: Path) -> None:
    assert ask(FakeDriver(status=100), tmp_path) == Gpus((), "the NVIDIA driver does not start (status 100)")


def test_free_memory_is_that_of_the_gpu_at_this_place() -> None:
    management = FakeManagement({"0000:00:00.0": 300, "0000:01:00.0": 1700})
    assert [ask_free(management, gpu) for gpu in GPUS] == [300, 1700]


def test_all_memory_counts_as_free_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask_free(FakeManagement({}), GPUS[1]) == 2000
    monkeypatch.setattr("kvscape.analysis.gpu_memory.gpus", lambda: Gpus(GPUS))
    monkeypatch.setattr("kvscape.analysis.gpu_memory.ctypes.CDLL", missing)
    assert [free_gpu_bytes(index) for index in range(3)] == [1000, 2000, 0]
    assert available_memory_bytes("cuda:1") == 2000 and available_memory_bytes() > 2000


def missing(name: str) -> Any:
    raise OSError(name)
