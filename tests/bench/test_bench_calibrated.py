from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.analysis.device import Device
from kvscape.bench import calibrated
from kvscape.results import current_environment

DEVICE = Device("here", 2, 1e10, 4e11, 1e11, 2e-6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setattr(calibrated, "calibrate", lambda threads: replace(DEVICE, threads=threads or 2))


def test_a_calibration_is_kept() -> None:
    assert calibrated.stored_device(2) is None
    assert calibrated.calibrate_device(2) == DEVICE
    assert calibrated.stored_device(2) == DEVICE


def test_it_belongs_to_its_threads() -> None:
    calibrated.calibrate_device(1)
    assert calibrated.stored_device(2) is None


def test_it_belongs_to_the_versions_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated.calibrate_device(2)
    later = replace(current_environment(), packages={"apache-tvm": "1.0"})
    monkeypatch.setattr(calibrated, "current_environment", lambda: later)
    assert calibrated.stored_device(2) is None


def test_a_damaged_one_is_none(tmp_path: Path) -> None:
    calibrated.calibrate_device(2)
    (path,) = tmp_path.rglob("calibrations/*.json")
    for text in ("{", "{}", "[1]", '{"machine": "here", "speed": 1}'):
        path.write_text(text)
        assert calibrated.stored_device(2) is None
