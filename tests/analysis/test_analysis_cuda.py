"""What a driver says of its GPUs; the driver is a fake one."""

from typing import Any

from kvscape.analysis.cuda import Gpu, Gpus, ask


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


def test_each_gpu_has_a_name_an_architecture_and_processors() -> None:
    driver = FakeDriver(("H100", 9, 0, 132), ("A10", 8, 6, 72))
    assert ask(driver) == Gpus((Gpu("H100", "sm_90", 132), Gpu("A10", "sm_86", 72)))


def test_a_driver_that_does_not_start_says_so() -> None:
    assert ask(FakeDriver(status=100)) == Gpus((), "the NVIDIA driver does not start (status 100)")
