"""The engine's own time for a sequence, which grows with what is done in a step and knows no device."""

import time

import pytest

from kvscape.bench.host_probe import token_s
from kvscape.engine import Engine, Output


def test_a_step_of_a_whole_batch_is_shared_by_its_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, now = Engine.step, [0.0]

    def step(self: Engine) -> list[Output]:
        found = plain(self)
        now[0] += 1e-5 * len(found) if len(found) == 16 else 1.0
        return found

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Engine, "step", step)
    assert token_s() == pytest.approx(1e-5)
