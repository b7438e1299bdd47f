"""The benchmark of edited logits, with the processor in the GPU's place: what it compares is the same."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from built_tiny import BuildTiny
from kvscape.config import EngineConfig
from kvscape.engine.devices.cpu import CpuDevice

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, built_tiny: BuildTiny) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found, built = import_module("gpu_edits"), built_tiny("auto")
    device = CpuDevice(built.library, built.packed_weights, 2)
    for name, value in {"PROMPT": 20, "DECODED": 4, "BY_HOST": 3, "opened": lambda library, folder: device}.items():
        monkeypatch.setattr(found, name, value)
    small = lambda context, chunk, *others, **knobs: EngineConfig(256, 256, *others, **knobs)  # noqa: E731
    monkeypatch.setattr(found, "EngineConfig", small)
    return found


def asked(benchmark: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[dict[str, Any]]]:
    file = folder / "edits.jsonl"
    arguments = ["library.tar", str(folder), "--batch", "2", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["gpu_edits.py", *arguments])
    return benchmark.main(), [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_equal_answers_are_good(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, rows = asked(benchmark, tmp_path, monkeypatch)
    assert status == 0 and [row["kind"] for row in rows] == [*benchmark.KINDS]
    assert all(row["step_s"] > 0 and row["by_host_s"] > 0 and row["differ"] == 0 for row in rows)


def test_other_answers_are_told(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unedited = benchmark.sampled
    monkeypatch.setattr(
        benchmark, "sampled", lambda logits, draws: unedited(logits, [one._replace(edits=None) for one in draws])
    )
    monkeypatch.setattr(benchmark.Half, "accept", lambda self, token_id: self._halves.reverse())
    status, rows = asked(benchmark, tmp_path, monkeypatch)
    assert status == 1 and {row["kind"] for row in rows if row["differ"]} == {"penalties", "mask", "all"}
