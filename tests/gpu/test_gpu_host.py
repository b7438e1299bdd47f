"""What runs on a GPU's host: each part has its time and its last lines, and its studies are of the points it says."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kvscape.study.space import read_space
from pretended_gpu import pretend_gpu

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("gpu_host")


def run(benchmark: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any]) -> int:
    monkeypatch.setattr(benchmark, "PARTS", parts)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    places = ["--out", str(folder / "out"), "--weights", str(folder / "weights"), "--lines", "2"]
    monkeypatch.setattr(sys, "argv", ["gpu_host.py", "run", str(folder), *places])
    return int(benchmark.main())


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_parts_are_run_and_told(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "good": (lambda host: [python("print(1); print(2); print(3)"), python("print(4)")], 60, True),
        "wrong": (lambda host: [python("print(5); 1 / 0")], 60, False),
        "slow": (lambda host: [python("print(6, flush=True); input()")], 0.0, False),
    }
    assert run(benchmark, tmp_path, monkeypatch, parts) == 1
    said = capsys.readouterr().out
    assert said.split("## wrong")[0].splitlines()[1:] == ["2", "3", "4"]
    assert "## wrong: status 1" in said and "ZeroDivisionError" in said and "## slow: status 124" in said
    assert run(benchmark, tmp_path, monkeypatch, {"good": parts["good"]}) == 0


def test_an_end_ends_what_runs(benchmark: Any, tmp_path: Path) -> None:
    runner = benchmark.Runner()
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(runner, ["sleep", "60"], 60, tmp_path / "part")
        while not runner.running:
            pass
        runner.end()
        assert status.result() == -15 and runner.is_ended


def test_every_part_names_files_that_are_there(benchmark: Any, tmp_path: Path) -> None:
    host = benchmark.Host(tmp_path, tmp_path, "model.gguf", tmp_path, "python3")
    for part, limit_s, _ in benchmark.PARTS.values():
        for command in part(host):
            scripts = [Path(word) for word in command if word.endswith(".py")]
            assert limit_s > 0 and all(script.exists() for script in scripts)
            assert scripts or command[:3] == [sys.executable, "-m", "kvscape"]
    made = [path for path, _ in benchmark.prepared(host, "sm_90")]
    assert set(host.large) < set(made) and len({f"{path.stem}-{path.parent.name}" for path in made}) == len(made)


def test_the_studies_have_their_points(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    host = benchmark.Host(tmp_path, tmp_path, "model.gguf", tmp_path, "python3")
    for part, count in (("study", 24), ("out_of_memory", 1)):
        benchmark.PARTS[part][0](host)
        (file,) = (each for each in tmp_path.glob("*.toml") if each.stem == {"out_of_memory": "memory"}.get(part, part))
        points = read_space(file).points
        assert len(points) == count and {point.build.model for point in points} == {"model.gguf"}


def test_a_studys_plan_stands_beside_what_was_taken(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {"quantization": "q0f16", "kv_dtype": "f16", "context_window_size": 8192, "max_batch_size": 1}
    good: dict[str, Any] = {
        "parameters": point,
        "metrics": {"peak_device_bytes": 7 << 20, "decode_tokens_per_s": 1700.0},
        "predicted": {"total_bytes": 5 << 20, "decode_tokens_per_s": 1540.0},
        "status": "ok",
        "reason": "",
    }
    bad = {**good, "metrics": {}, "status": "out_of_memory", "reason": "error: out of memory on cuda:0 for a step"}
    (tmp_path / "records.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    monkeypatch.setattr(sys, "argv", ["gpu_study.py", str(tmp_path / "records.jsonl")])
    import_module("gpu_study").main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == [
        "| q0f16 | f16 | 8192 | 1 | 5 | 7 | +2 | 1,700 | 1,540 |",
        "1 ok, 1 out_of_memory",
        "error: out of memory on cuda:0 for a step",
    ]
