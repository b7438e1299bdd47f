"""Adapters as wgpu lists them; no driver is asked but for the machine's own list."""

import sys
from typing import Any

import pytest

from kvscape.analysis import adapters as module
from kvscape.analysis.adapters import LIMITS, Adapter, Adapters, ask, find_adapter
from kvscape.config import AdapterName, adapter_name
from kvscape.errors import DeviceError
from kvscape.results import current_environment


class FakeHandle:
    def __init__(self, name: str, backend: str, kind: str) -> None:
        self.info = {"device": name, "backend_type": backend, "adapter_type": kind, "description": "driver 1"}
        self.features = {"shader-f16", "pipeline-cache"}
        self.limits = dict.fromkeys(LIMITS, 8)


class FakeGpu:
    def __init__(self, *handles: FakeHandle, error: Exception | None = None) -> None:
        self.handles, self.error = handles, error

    def enumerate_adapters_sync(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.handles


MIXED = FakeGpu(
    FakeHandle("llvmpipe", "Vulkan", "CPU"),
    FakeHandle("screen", "OpenGL", "DiscreteGPU"),
    FakeHandle("H100", "Vulkan", "DiscreteGPU"),
    FakeHandle("M3", "Metal", "IntegratedGPU"),
)


def test_real_gpus_come_first_and_are_named_by_backend() -> None:
    named = [(name, adapter.name) for name, adapter in ask(MIXED).named()]
    assert named == [("vulkan:0", "H100"), ("metal:0", "M3"), ("vulkan:1", "llvmpipe")]


def test_an_adapter_says_what_it_is() -> None:
    lines = {name: str(adapter) for name, adapter in ask(MIXED).named()}
    assert lines["vulkan:0"].startswith("H100 (discrete), driver 1, shader-f16, max-buffer-size 8, ")
    assert "llvmpipe (software, no GPU), driver 1" in lines["vulkan:1"] and ", untested, " in lines["metal:0"]


@pytest.mark.parametrize(
    ("device", "found"),
    [("vulkan", "H100"), ("vulkan:1", "llvmpipe"), ("metal:0", "M3"), ("webgpu:1", "M3"), ("webgpu", "H100")],
)
def test_a_device_picks_an_adapter(device: str, found: str) -> None:
    name = adapter_name(device)
    assert name is not None and find_adapter(device, name, ask(MIXED)).name == found


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (Adapters((), "the package wgpu is missing"), "the package wgpu is missing"),
        (ask(FakeGpu()), "no Vulkan, Metal or DX12 driver shows a GPU"),
        (ask(FakeGpu(error=OSError("no libvulkan\nat all"))), r"a graphics driver does not start \(no libvulkan\)"),
        (ask(MIXED), "vulkan adapters that this machine has: 2, counted from 0"),
    ],
)
def test_what_cannot_run_is_one_clear_line(known: Adapters, why: str) -> None:
    with pytest.raises(DeviceError, match=f"^device 'vulkan:2' cannot run here: {why}; use --device cpu$"):
        find_adapter("vulkan:2", AdapterName("vulkan", 2), known)


def test_records_name_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "adapters", lambda: ask(MIXED))
    found = {device: current_environment(device) for device in ("cpu", "vulkan:0", "vulkan:1", "metal")}
    assert (found["vulkan:0"].gpu, found["vulkan:0"].gpu_architecture) == ("H100", "vulkan")
    assert found["vulkan:0"].gpu_driver.startswith("driver 1, wgpu ")
    assert len({each.machine for each in found.values()}) == 4


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wgpu", None)
    assert module.adapters.__wrapped__() == Adapters((), "the package wgpu is missing: pip install 'kvscape[webgpu]'")


def test_this_machine_is_asked_once() -> None:
    assert module.adapters() is module.adapters()
    assert all(isinstance(adapter, Adapter) for adapter in module.adapters().found)


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "vulkan:", "vulkan:x", "opengl"])
def test_other_devices_are_no_adapters(device: str) -> None:
    assert adapter_name(device) is None
