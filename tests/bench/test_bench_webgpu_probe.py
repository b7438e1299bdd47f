"""What is measured of a GPU of WebGPU: with a clock that knows what is done, and as it is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from kvscape.bench import webgpu_probe as module
from kvscape.bench.calibrate import calibrate
from kvscape.bench.probe import measure_rates
from kvscape.bench.webgpu_probe import WebgpuProbe
from kvscape.config import AdapterName
from kvscape.engine.devices.webgpu.player import WebgpuPlayer
from kvscape.results import current_environment
from shader_kernels import needs_adapter

pytestmark = needs_adapter
HERE = AdapterName(None, 0)


class Work:
    """Counts workgroups and launches as time: what has no driver's clock has one that is known."""

    def __init__(self, seconds: Callable[[Any], float]) -> None:
        self.now, self._seconds = 0.0, seconds

    def play(self, player: WebgpuPlayer, dispatches: Sequence[Any]) -> None:
        self.now += sum(map(self._seconds, dispatches))


def probe(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Any], float]) -> WebgpuProbe:
    work = Work(seconds)
    monkeypatch.setattr(WebgpuPlayer, "play", lambda player, dispatches: work.play(player, dispatches))
    return WebgpuProbe("webgpu:0", HERE, lambda: work.now)


def test_bytes_are_counted_as_read_and_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probe(monkeypatch, lambda dispatch: dispatch.grid[0] * 256 * 32 / 1e12)
    assert found.copied_bytes_per_s() == pytest.approx(1e12)


def test_a_launch_is_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe(monkeypatch, lambda dispatch: 7e-6).call_s() == pytest.approx(7e-6)


def test_operations_are_those_of_the_rounds_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    monkeypatch.setattr(WebgpuProbe, "_set", lambda self, count: rounds.append(count))
    threads = module._WORKGROUPS * 256
    found = probe(monkeypatch, lambda _: rounds[-1] * threads * 32 / 4e13)
    assert found.operations_per_s() == pytest.approx(4e13)


def test_products_are_as_many_as_are_counted() -> None:
    found = WebgpuProbe("webgpu:0", HERE)
    source, target = found._buffers(16 * 256)
    dispatch = found._dispatch(module._PRODUCTS, 1, source, target)
    found._gpu.queue.write_buffer(source, 0, np.array([*[1] * 16, *[2] * 4, *[1] * 4], np.float32))
    found._set(3)
    found._player.play([dispatch])
    result = np.frombuffer(found._gpu.queue.read_buffer(target), np.float32).reshape(-1, 4)
    start = 1.0 + np.arange(256)  # three times twice as much and one more, in four chains
    np.testing.assert_array_equal(result, np.repeat(4 * (8 * start + 7)[:, None], 4, axis=1))


def test_this_machines_adapter_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASS_S", 0.002)
    monkeypatch.setattr(module, "_COPY_BYTES", 1 << 20)
    device, rates = calibrate(4, "webgpu:0"), measure_rates(1, device="webgpu:0")
    assert (device.machine, device.threads) == (current_environment("webgpu:0").machine, 1)
    assert 1e8 < device.memory_bytes_per_s < 1e14 and 1e8 < rates.memory_bytes_per_s < 1e14
    assert 1e8 < device.float_operations_per_s == device.integer_operations_per_s < 1e15
    assert 1e8 < rates.operations_per_s < 1e15 and 1e-8 < device.call_s < 1e-2
