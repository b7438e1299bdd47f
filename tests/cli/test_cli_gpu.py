"""The commands on a GPU, which is a pretended one: they say what they say of the processor, and name the GPU."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compiled_here import compiles_here
from kvscape.cli.main import run
from kvscape.cli.serve import bounded
from pretended_gpu import GPU, pretend_gpu

Command = Callable[..., dict[str, Any]]
WHERE = ("cpu", "cuda:0")
PAGE_PACKAGES = ("polars", "altair", "vl_convert", "optuna", "pandas")


@pytest.fixture
def command(
    kvscape_home: Path, long_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """``command(verb, device, *flags)`` is what it prints as JSON."""
    monkeypatch.setenv("KVSCAPE_HOME", str(kvscape_home))
    compiles_here(monkeypatch)
    pretend_gpu(monkeypatch)

    def done(verb: str, device: str, *flags: str) -> dict[str, Any]:
        status = run([verb, "--model", str(long_gguf), "--device", device, *flags, "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    return done


def test_it_generates(command: Command) -> None:
    here, there = (command("generate", device, "--prompt", "the thing", "--max-tokens", "9") for device in WHERE)
    assert here["token_ids"] == there["token_ids"]


def test_it_is_measured_and_named(command: Command) -> None:
    flags = ("--num-runs", "1", "--prompt-tokens", "20", "--max-tokens", "3", "--max-batch-size", "2")
    here, there = (command("bench", device, *flags) for device in WHERE)
    assert there["environment"]["gpu"] == GPU.name and "gpu" not in here["environment"]
    assert there["environment"]["machine"] != here["environment"]["machine"]
    assert there["environment"]["memory_bytes_per_s"] > 100 * here["environment"]["memory_bytes_per_s"]
    assert there["metrics"]["peak_device_bytes"] > 0 and "peak_device_bytes" not in here["metrics"]
    assert there["metrics"].keys() - here["metrics"].keys() == {"peak_device_bytes"}
    assert there["predicted"].keys() == here["predicted"].keys()


def test_its_quality_is_that_of_its_numbers(command: Command) -> None:
    flags = ("--protocol", "llamacpp", "--context", "64", "--limit", "2")
    here, there = (command("ppl", device, *flags) for device in WHERE)
    assert there["perplexity"] == here["perplexity"]
    assert there["environment"]["gpu"] == GPU.name


def test_its_kernels_are_timed_by_its_own_clock(command: Command) -> None:
    flags = ("--prompt-tokens", "12", "--num-runs", "2", "--context-window-size", "64")
    found = command("profile", "cuda:0", *flags)
    assert [step["step"] for step in found["steps"]] == ["prefill", "decode"]
    assert found["environment"]["gpu"] == GPU.name
    # Nothing that the fake driver knows of happens between its events.
    assert all(kernel["time_s"] == 0.0 for step in found["steps"] for kernel in step["kernels"])


def test_a_host_without_the_packages_of_the_page_prints_its_profile(
    command: Command, long_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PAGE_PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("kvscape.report.")]:
        monkeypatch.delitem(sys.modules, name)
    flags = ["--device", "cuda:0", "--prompt-tokens", "12", "--num-runs", "1", "--context-window-size", "64"]
    assert run(["profile", str(long_gguf), *flags]) == 0
    assert "decode step, 1 token" in capsys.readouterr().out
    assert run(["profile", str(long_gguf), *flags, "--out", "profile.png"]) == 2
    assert "it takes altair, vl_convert, which this host lacks" in capsys.readouterr().err


def test_its_memory_is_what_a_plan_may_take(command: Command) -> None:
    plan = command("bench", "cuda:0", "--plan")
    assert 60 << 30 < plan["available_bytes"] <= 70 << 30 and plan["reason"] == ""


def test_what_does_not_fit_is_one_line_before_weights_are_read(
    command: Command, long_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command("compile", "cuda:0")
    monkeypatch.setattr("kvscape.engine.devices.cuda.device.free_gpu_bytes", lambda index: 1 << 20)
    monkeypatch.setattr("kvscape.engine.devices.cuda.device.tensor_list", lambda arrays: pytest.fail("they are read"))
    flags = ["--device", "cuda:0", "--prompt", "x", "--max-batch-size", "8", "--context-window-size", "64"]
    assert run(["generate", "--model", str(long_gguf), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory on cuda:0: the KV cache of context_window_size 64 x max_batch_size 8 ")
    assert said.count("\n") == 1 and "1.0 MiB are free" in said


def test_a_servers_cache_fits_into_it(command: Command, long_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"model": str(long_gguf), "device": "cuda:0", "jit": "on", "model_lib": None, "overrides": ""}
    assert bounded(flags)["max_total_sequence_length"] is None
    monkeypatch.setattr("kvscape.analysis.free_memory.free_gpu_bytes", lambda index: 20 * 2**20)
    assert 2048 <= bounded(flags)["max_total_sequence_length"] < 16 * 2048


def test_it_is_calibrated(capsys: pytest.CaptureFixture[str], command: Command) -> None:
    assert run(["doctor", "--calibrate", "--device", "cuda:0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert found["integer_operations_per_s"] == found["float_operations_per_s"] and found["threads"] == 1
    assert 1e-7 < found["token_s"] < 1e-2
    assert run(["doctor", "--device", "cuda:0"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("calibration of cuda:0"))
    assert "GB/s" in line and "thread" not in line
