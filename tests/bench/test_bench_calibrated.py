from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.analysis.cuda import Gpu, Gpus
from kvscape.analysis.device import Device
from kvscape.bench import calibrated
from kvscape.results import current_environment

DEVICE = Device("here", 2, 1e10, 4e11, 1e11, 2e-6)


def made_up(threads: int | None, device: str) -> Device:
    return replace(DEVICE, machine="here" if device == "cpu" else device, threads=threads or 2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setattr(calibrated, "calibrate", made_up)


def test_a_calibration_is_kept() -> None:
    assert calibrated.stored_device(2) is None
    assert calibrated.calibrate_device(2) == DEVICE
    assert calibrated.stored_device(2) == DEVICE


def test_it_belongs_to_its_threads() -> None:
    calibrated.calibrate_device(1)
    assert calibrated.stored_device(2) is None


def test_it_belongs_to_its_gpu_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus((Gpu("H100", "sm_90", 132), Gpu("A10", "sm_86", 72)))
    monkeypatch.setattr("kvscape.results.environment.gpus", lambda: gpus)
    calibrated.calibrate_device(2, "cuda:0")
    found = [calibrated.stored_device(threads, "cuda:0") for threads in (None, 1, 2)]
    assert [device and device.machine for device in found] == ["cuda:0"] * 3
    assert calibrated.stored_device(2) is None and calibrated.stored_device(2, "cuda:1") is None


def test_that_of_an_adapter_is_one_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    here = current_environment()
    monkeypatch.setattr(calibrated, "current_environment", lambda device: replace(here, gpu=device))
    calibrated.calibrate_device(2, "vulkan:0")
    found = [calibrated.stored_device(threads, "vulkan:0") for threads in (None, 1, 2)]
    assert [device and device.machine for device in found] == ["vulkan:0"] * 3
    assert calibrated.stored_device(1) is None and calibrated.stored_device(1, "vulkan:1") is None


def test_it_belongs_to_the_versions_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated.calibrate_device(2)
    later = replace(current_environment(), packages={"apache-tvm": "1.0"})
    monkeypatch.setattr(calibrated, "current_environment", lambda device: later)
    assert calibrated.stored_device(2) is None


def test_a_damaged_one_is_none(tmp_path: Path) -> None:
    calibrated.calibrate_device(2)
    (path,) = tmp_path.rglob("calibrations/*.json")
    for text in ("{", "{}", "[1]", '{"machine": "here", "speed": 1}'):
        path.write_text(text)
        assert calibrated.stored_device(2) is None
