"""Decode time against context for each KV precision: ``python benchmarks/kv_context.py``.

One loaded model serves an engine for each precision and capacity. Prompts are beginnings of one random text, so that
the prefix cache keeps what was computed and each round times decode steps alone; precisions take turns. A number is
the median of all steps of all rounds. Writes a plot and, beside it, its numbers as JSON.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import altair as alt
import numpy as np

from kvscape.analysis.cpu import default_threads
from kvscape.config import KV_DTYPES, BuildConfig, EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.files import written_file
from kvscape.llm.build import build_artifact
from kvscape.report.figure import figure
from kvscape.report.theme import KV_COLOURS, colours
from kvscape.results import current_environment

SMALL, LARGE = 1024, 8192
SPARE = 1024  # room for the answers of several rounds beside the text


@dataclass(frozen=True)
class Case:
    """One engine, and the decode times at each context in milliseconds."""

    kv_dtype: str
    capacity: int
    engine: Engine
    times_ms: dict[int, list[float]] = field(default_factory=dict)

    def median_ms(self, context: int) -> float:
        return statistics.median(self.times_ms[context])


def open_case(device: CpuDevice, kv_dtype: str, capacity: int) -> Case:
    config = EngineConfig(
        context_window_size=capacity, max_total_sequence_length=capacity + SPARE, kv_dtype=kv_dtype, page_size=16
    )
    return Case(kv_dtype, capacity, Engine(device, config))


def time_decode(case: Case, text: tuple[int, ...], context: int, steps: int) -> None:
    """Generate until ``context`` tokens are there; the last ``steps`` of them are timed."""
    params = SamplingParams(max_tokens=steps + 1, ignore_eos=True)
    case.engine.add(Request("decode", text[: context - steps - 1], params))
    while case.engine.has_work:
        outputs = case.engine.step()
    assert outputs[0].metrics is not None
    case.times_ms.setdefault(context, []).extend(1e3 * seconds for seconds in outputs[0].metrics.itl_s)


def measure(cases: Sequence[Case], contexts: Sequence[int], rounds: int, steps: int) -> None:
    text = tuple(np.random.default_rng(0).integers(3, cases[0].engine.model.vocab_size, max(contexts)).tolist())
    for number in range(rounds):
        for context in contexts:
            for case in (*cases[number % len(cases) :], *cases[: number % len(cases)]):
                if context <= case.capacity:
                    time_decode(case, text, context, steps)
        print(f"round {number + 1} of {rounds}", flush=True)


def show(cases: Sequence[Case], contexts: Sequence[int]) -> None:
    large = [case for case in cases if case.capacity == LARGE]
    (f16,) = (case for case in large if case.kv_dtype == "f16")
    print(f"\nms per token, capacity {LARGE:,}; in brackets by that of f16")
    print("context " + "".join(f"{case.kv_dtype:>16}" for case in large))
    for context in contexts:
        cells = [f"{c.median_ms(context):8.2f} ({c.median_ms(context) / f16.median_ms(context):.2f})" for c in large]
        print(f"{context:>7,} " + "".join(f"{cell:>16}" for cell in cells))
    print("\nms per token by capacity")
    print("context  kv    " + "".join(f"{capacity:>9,}" for capacity in (SMALL, LARGE)) + "   ratio")
    for small in (case for case in cases if case.capacity == SMALL):
        (same,) = (case for case in large if case.kv_dtype == small.kv_dtype)
        for context in small.times_ms:
            a, b = small.median_ms(context), same.median_ms(context)
            print(f"{context:>7,}  {small.kv_dtype:5} {a:9.2f}{b:9.2f}{b / a:8.2f}")


def draw(cases: Sequence[Case], path: Path) -> None:
    rows = [
        {
            "context": context,
            "ms": case.median_ms(context),
            "kv": case.kv_dtype,
            "capacity": f"{case.capacity:,} tokens",
        }
        for case in cases
        for context in case.times_ms
    ]
    domain, palette = colours((case.kv_dtype for case in cases), KV_COLOURS)
    capacities = [f"{capacity:,} tokens" for capacity in (LARGE, SMALL)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("context:Q", title="Tokens in the KV cache", axis=alt.Axis(format=",.0f")),
        y=alt.Y("ms:Q", title="Decode (ms per token)", scale=alt.Scale(zero=True)),
        color=alt.Color("kv:N", title="KV precision", scale=alt.Scale(domain=domain, range=palette)),
    )
    line = base.transform_filter(f"datum.capacity == '{capacities[0]}'").mark_line(strokeWidth=2)
    points = base.mark_point(filled=False, strokeWidth=2, size=60, opacity=1).encode(
        shape=alt.Shape("capacity:N", title="Capacity", scale=alt.Scale(domain=capacities, range=["circle", "diamond"]))
    )
    chart = (line + points).properties(width=560, height=300)
    figure("kv_context", "Decode time by context", "medians; one stream, the default model", chart).write(path)


def write_record(cases: Sequence[Case], threads: int, path: Path) -> None:
    measured = [
        {"kv_dtype": case.kv_dtype, "capacity": case.capacity, "context": context, "times_ms": times}
        for case in cases
        for context, times in case.times_ms.items()
    ]
    environment = {**current_environment().to_json(), "threads": threads}
    with written_file(path) as temporary:
        temporary.write_text(json.dumps({"environment": environment, "measured": measured}) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8191])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16, help="decode steps timed at each context in a round")
    parser.add_argument("--out", type=Path, default=Path("docs/kv_context.png"))
    arguments = parser.parse_args()
    built, threads = build_artifact(BuildConfig()), default_threads()
    device = CpuDevice(built.library, built.packed_weights, threads)
    cases = [open_case(device, kv_dtype, capacity) for capacity in (LARGE, SMALL) for kv_dtype in KV_DTYPES]
    measure(cases, arguments.contexts, arguments.rounds, arguments.steps)
    show(cases, arguments.contexts)
    draw(cases, arguments.out)
    write_record(cases, threads, arguments.out.with_suffix(".json"))


if __name__ == "__main__":
    main()
