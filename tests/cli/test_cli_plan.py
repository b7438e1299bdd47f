"""The memory of a design point without running it, and the refusal of one that does not fit."""

import json
from pathlib import Path

from commands import Run

POINT = ("--context-window-size", "64", "--prompt-tokens", "8", "--max-tokens", "2", "--num-runs", "1")


def test_a_plan_has_the_bytes_that_a_run_predicts(kvscape: Run, long_gguf: Path) -> None:
    arguments = ("bench", "--model", str(long_gguf), *POINT, "--kv-dtype", "int8", "--max-batch-size", "3", "--json")
    plan = json.loads(kvscape(*arguments, "--plan").stdout)
    record = json.loads(kvscape(*arguments).stdout)
    for name in ("weights_bytes", "kv_cache_bytes", "kv_bytes_per_token", "workspace_bytes", "total_bytes"):
        assert plan[name] == record["predicted"][name]
    assert plan["kv_cache_bytes"] == record["metrics"]["kv_cache_bytes"] == 3 * 64 * plan["kv_bytes_per_token"]
    assert sum(term["nbytes"] for term in plan["terms"]) == plan["total_bytes"]
    assert plan["parameters"] == record["parameters"]
    assert plan["reason"] == ""


def test_a_plan_says_what_would_fit_and_so_does_the_engine(kvscape: Run, long_gguf: Path) -> None:
    arguments = ("bench", "--model", str(long_gguf), *POINT, "--max-batch-size", "1000000000")
    plan = kvscape(*arguments, "--plan")
    assert plan.returncode == 0
    assert "2 layers x 4,000,000,000 pages x 2,048 B (f16, 16 tokens)" in plan.stdout
    line = plan.stdout.splitlines()[-1]
    assert line.startswith("It does not fit: the KV cache of context_window_size 64 x max_batch_size 1000000000 needs")
    assert "; use max_batch_size at most " in line
    refused = kvscape(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "; use max_batch_size at most " in refused.stderr


def test_a_plan_writes_no_table(kvscape: Run, long_gguf: Path, tmp_path: Path) -> None:
    done = kvscape("bench", "--model", str(long_gguf), "--plan", "--out-dir", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --plan with --out-dir: a plan measures nothing; leave one of them out\n"
    assert not (tmp_path / "out").exists()
