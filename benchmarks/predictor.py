"""How far predictions are off: ``python benchmarks/predictor.py [--rounds N] [--out FILE.json]``.

Of a space of more than 2,000 points of the default model 36 are measured, in rounds of another order each so that drift
does not matter, in one process that loads one after the other. 24 of them teach the predictor, which then says memory,
prefill and decode speed of all points; the table compares it with the other 12, which it has not seen.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.bench import WAITING, turn
from kvscape.config import DesignPoint
from kvscape.config.point import DEFAULT_MODEL
from kvscape.results import Record, current_environment
from kvscape.study.device import find_device
from kvscape.study.flags import compile_arguments, kvscape_command
from kvscape.study.model_facts import ModelFacts
from kvscape.study.predictor import Predictor

AXES: Mapping[str, Sequence[Any]] = {
    "quantization": ("auto", "q4f16_1", "q8f16_1", "q0f16"),
    "kv_dtype": ("f32", "f16", "int8", "int4"),
    "context_window_size": (512, 1024, 2048, 4096),
    "prefill_chunk_size": (32, 64, 128, 512),
    "max_batch_size": (1, 2, 4),
    "sliding_window_size": (-1, 128, 256),
}
WORKLOAD = {"prompt_tokens": 192, "max_tokens": 48}
METRICS = ("total_bytes", "prefill_tokens_per_s", "decode_tokens_per_s")
TARGETS = {"total_bytes": 0.03, "prefill_tokens_per_s": 0.10, "decode_tokens_per_s": 0.10}


def space(model: str) -> list[DesignPoint]:
    return [_point(model, values) for values in product(*AXES.values())]


def _point(model: str, values: Sequence[Any]) -> DesignPoint:
    chosen = dict(zip(AXES, values, strict=True))
    sinks = 4 if chosen["sliding_window_size"] != -1 else 0
    return DesignPoint.from_flat({"model": model, **chosen, "attention_sink_size": sinks, **WORKLOAD})


def balanced(model: str, count: int, generator: np.random.Generator) -> list[DesignPoint]:
    """Points in which every value of every axis comes about equally often."""
    columns = [generator.permutation(list(islice(cycle(range(len(v))), count))) for v in AXES.values()]
    rows = zip(*columns, strict=True)
    return [_point(model, [values[at] for values, at in zip(AXES.values(), row, strict=True)]) for row in rows]


class Builds:
    """Facts of each weight format, built where they are missing."""

    def __init__(self) -> None:
        self._facts: dict[str, ModelFacts] = {}

    def __call__(self, point: DesignPoint) -> ModelFacts:
        name = point.build.quantization
        if name not in self._facts:
            command = kvscape_command([*compile_arguments(point), "--json"])
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            self._facts[name] = ModelFacts.from_json(json.loads(done.stdout))
        return self._facts[name]


def measure(points: Sequence[DesignPoint], rounds: int, generator: np.random.Generator) -> list[Record]:
    """Medians of the rounds; in each, every point is loaded, run once to warm up, and measured."""
    answers: list[list[dict[str, Any]]] = [[] for _ in points]
    worker = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(rounds):
            for at in generator.permutation(len(points)):
                process.stdin.write(json.dumps(points[at].flat()) + "\n")
                answer = json.loads(process.stdout.readline())
                if "error" in answer:
                    sys.exit(f"error: {answer['error']}")
                answers[at].append(answer)
            print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
        process.stdin.close()
    return [_record(point, rows) for point, rows in zip(points, answers, strict=True)]


def _record(point: DesignPoint, answers: Sequence[Mapping[str, Any]]) -> Record:
    samples = {name: [float(answer[name]) for answer in answers] for name in METRICS}
    metrics = {name: float(statistics.median(values)) for name, values in samples.items()}
    return Record(point.flat(), metrics, {}, samples, current_environment().to_json())


def swing(records: Sequence[Record], name: str) -> float:
    """Mean over the points of how far one run lies from their median: no prediction can be much better."""
    return statistics.mean(abs(value / r.metrics[name] - 1) for r in records for value in r.samples[name])


def report(measured: Sequence[Record], predicted: Sequence[Record]) -> dict[str, float]:
    """Print a table; return the mean error of each metric."""
    names = ("quantization", "kv_dtype", "prefill_chunk_size", "max_batch_size", "sliding_window_size")
    print("| Held-out point | prefill, measured | predicted | decode, measured | predicted |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for real, guess in zip(measured, predicted, strict=True):
        label = ", ".join(str(real.parameters[name]) for name in names)
        cells = [f"{_shown(real.metrics[n])} | {_shown(guess.predicted[n])}" for n in METRICS[1:]]
        print(f"| {label} | {' | '.join(cells)} |")
    pairs = list(zip(measured, predicted, strict=True))
    return {name: statistics.mean(abs(g.predicted[name] / r.metrics[name] - 1) for r, g in pairs) for name in METRICS}


def _shown(speed: float) -> str:
    return f"{speed:,.1f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each point")
    parser.add_argument("--train", type=int, default=24, help="points that teach the predictor")
    parser.add_argument("--held-out", type=int, default=12, help="points that it is compared with")
    parser.add_argument("--seed", type=int, default=0, help="which points")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, help="file for the records, as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    generator = np.random.default_rng(arguments.seed)
    points, facts = space(arguments.model), Builds()
    train = balanced(arguments.model, arguments.train, generator)
    rest = [point for point in points if point not in train]
    held_out = [rest[at] for at in generator.choice(len(rest), arguments.held_out, replace=False)]
    for point in (*train, *held_out):
        facts(point)
    device = find_device()
    with turn(lambda: print(WAITING, file=sys.stderr)):
        records = measure([*train, *held_out], arguments.rounds, generator)
    start = time.perf_counter()
    predictor = Predictor.fit(records[: len(train)], [], lambda name: device, facts)
    everything = predictor.predict(points)
    elapsed = time.perf_counter() - start
    errors = report(records[len(train) :], predictor.predict(held_out))
    print(f"\n{len(everything):,} points predicted in {elapsed:.2f} s from {len(train)} measured ones.")
    for name, error in errors.items():
        print(f"{name}: mean error {error:.1%} (target {TARGETS[name]:.0%}); runs swing by {swing(records, name):.1%}")
    if arguments.out:
        arguments.out.write_text(json.dumps([record.to_json() for record in records]))


if __name__ == "__main__":
    main()
