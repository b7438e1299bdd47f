from types import SimpleNamespace

import pytest

from kvscape.analysis.device import Device
from kvscape.bench import calibrate as module
from kvscape.bench import probe
from kvscape.bench.calibrate import calibrate
from kvscape.errors import ConfigError
from kvscape.results import current_environment


@pytest.fixture(scope="module")
def device() -> Device:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_NUM_THREADS", "2")
        patch.setattr(probe, "PASS_S", 0.002)
        patch.setattr(module, "_BUFFER_BYTES", 4 << 20)
        return calibrate(2)


def test_every_limit_is_one_that_a_processor_can_have(device: Device) -> None:
    assert (device.machine, device.threads) == (current_environment().machine, 2)
    assert 1e8 < device.memory_bytes_per_s < 1e13
    assert 1e9 < device.integer_operations_per_s < 1e14
    assert 1e8 < device.float_operations_per_s < 1e14
    assert 1e-7 < device.call_s < 1e-2 and 1e-7 < device.token_s < 1e-2


def test_a_short_call_is_what_it_usually_is_though_some_wait_for_their_core(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits = [0.0], iter(100 * [1e-5, 1e-5, 4e-3])

    def call() -> None:
        clock[0] += next(waits)

    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert probe.usual_s(call) == pytest.approx(1e-5)


def test_a_device_survives_json(device: Device) -> None:
    assert Device.from_json(device.to_json()) == device


def test_more_threads_than_there_are_cannot_be_calibrated() -> None:
    with pytest.raises(ConfigError, match="threads = 1000000: this machine has"):
        calibrate(10**6)
