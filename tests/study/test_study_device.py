import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvscape.analysis.device import Device
from kvscape.bench import calibrated
from kvscape.errors import DeviceError
from kvscape.study.device import find_device

DEVICE = Device("here", 2, 1e10, 4e11, 1e11, 2e-6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path))
    monkeypatch.setattr(calibrated, "calibrate", lambda threads, device: DEVICE)


def never(arguments: Sequence[str]) -> list[str]:
    raise AssertionError(arguments)


def test_a_calibrated_machine_is_not_measured_again() -> None:
    calibrated.calibrate_device(2)
    assert find_device(2, never) == DEVICE


def test_a_new_machine_is_calibrated_in_a_process_of_its_own() -> None:
    asked: list[Sequence[str]] = []

    def command(arguments: Sequence[str]) -> list[str]:
        asked.append(arguments)
        answer = json.dumps({"kvscape": "1.0", "calibration": DEVICE.to_json()})
        return [sys.executable, "-S", "-c", f"print({answer!r})"]

    assert find_device(2, command) == DEVICE
    assert find_device(None, command, "cuda:1") == DEVICE
    assert asked == [
        ["doctor", "--calibrate", "--threads", "2", "--json"],
        ["doctor", "--calibrate", "--device", "cuda:1", "--json"],
    ]


def test_a_calibration_that_fails_says_why() -> None:
    def command(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-S", "-c", "import sys; sys.exit('error: no compiler')"]

    with pytest.raises(DeviceError, match="cannot be calibrated: error: no compiler"):
        find_device(2, command)
