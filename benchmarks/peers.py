"""kvscape beside llama.cpp, in one run: ``python benchmarks/peers.py [--pairs NAME ...] [--rounds N] [--quick]``.

Each subject runs in a process of its own (``worker.py``), both go through the same Protocol, prompts and clock. Within
a round every measurement alternates, kvscape first in even rounds, llama.cpp first in odd ones; the table has the
medians of the rounds and their ratio. The result is appended to docs/performance.md unless ``--no-append``.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvscape.analysis.cpu import default_threads
from kvscape.bench import WAITING, turn
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.config.point import DEFAULT_MODEL
from kvscape.results import current_environment

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
WORKER = Path(__file__).with_name("worker.py")
OURS, THEIRS = "kvscape", "llamacpp"
PREFILL, DECODE = "prefill_tokens_per_s", "decode_tokens_per_s"


@dataclass(frozen=True)
class Pair:
    """Two builds of the same model at equal bits: (quantization, embedding quantization) of each side."""

    ours: tuple[str, str | None]
    theirs: tuple[str, str | None]

    def build(self, subject: str, model: str) -> BuildConfig:
        quantization, embedding = self.ours if subject == OURS else self.theirs
        return BuildConfig(model, quantization, embedding)

    @property
    def label(self) -> str:
        ours, theirs = ("+".join(filter(None, side)) for side in (self.ours, self.theirs))
        return f"{ours} / {'the file as it is' if theirs == 'auto' else theirs.upper()}"


PAIRS = {
    "q4": Pair(("q4f16_1", "q8f16_1"), ("q4_0", None)),  # llama.cpp keeps a tied embedding in Q8_0
    "q4-plain": Pair(("q4f16_1", None), ("q4_0", None)),
    "file": Pair(("auto", None), ("auto", None)),
    "q8": Pair(("q8f16_1", None), ("q8_0", None)),
    "f16": Pair(("q0f16", None), ("f16", None)),
}


@dataclass(frozen=True)
class Case:
    """One line of the table: ``batch`` prompts of ``prompt`` tokens, then ``output`` tokens of each."""

    measure: str
    prompt: int
    batch: int
    output: int

    @property
    def label(self) -> str:
        if self.measure == PREFILL:
            return f"prefill {self.prompt}"
        return f"decode at {self.prompt}" + (f", batch {self.batch}" if self.batch > 1 else "")


CASES = (
    Case(PREFILL, 128, 1, 2),
    Case(PREFILL, 512, 1, 2),
    Case(PREFILL, 2048, 1, 2),
    Case(DECODE, 128, 1, 64),
    Case(DECODE, 2048, 1, 64),
    Case(DECODE, 128, 4, 64),
    Case(DECODE, 128, 16, 32),
)
QUICK = (Case(PREFILL, 32, 1, 2), Case(DECODE, 32, 1, 4), Case(DECODE, 32, 2, 4))


class Side:
    """A subject's process."""

    def __init__(self, subject: str, python: str) -> None:
        self.subject = subject
        self.kernels: list[str] = []
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def measure(self, pair: Pair, case: Case, model: str, threads: int) -> float:
        """Tokens per second of one run."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(point(self.subject, pair, case, model, threads).flat()) + "\n")
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"{self.subject}'s process has ended"}
        if "error" in answer:
            sys.exit(f"error: {answer['error']}")
        self.kernels = answer["kernels"]
        return float(answer[case.measure])

    def close(self) -> None:
        self._process.communicate()


def point(subject: str, pair: Pair, case: Case, model: str, threads: int) -> DesignPoint:
    """The same point for both sides but for the names of the formats."""
    engine = EngineConfig(context_window_size=-(-(case.prompt + case.output) // 256) * 256, max_batch_size=case.batch)
    work = Workload(prompt_tokens=case.prompt, max_tokens=case.output)
    return DesignPoint(pair.build(subject, model), engine, work, subject, threads)


def compare(sides: Sequence[Side], pair: Pair, case: Case, arguments: argparse.Namespace) -> list[float]:
    """Median of each side over alternating rounds."""
    rates: dict[str, list[float]] = {side.subject: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            rates[side.subject].append(side.measure(pair, case, arguments.model, arguments.threads))
    return [statistics.median(rates[side.subject]) for side in sides]


def rows(sides: Sequence[Side], arguments: argparse.Namespace) -> Iterator[str]:
    yield "| Weights (kvscape / llama.cpp) | tokens/s | kvscape | llama.cpp | ratio |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name in arguments.pairs:
        for case in QUICK if arguments.quick else CASES:
            ours, theirs = compare(sides, PAIRS[name], case, arguments)
            ratio = f"**{ours / theirs:.2f}**"
            yield f"| {PAIRS[name].label} | {case.label} | {ours:,.0f} | {theirs:,.0f} | {ratio} |"


def heading(arguments: argparse.Namespace) -> list[str]:
    """Where, when and how, so that the numbers can be made again."""
    machine = current_environment()
    packages = ", ".join(f"{name} {machine.packages[name]}" for name in ("apache-tvm", "llama-cpp-python"))
    command = " ".join(["python benchmarks/peers.py", *sys.argv[1:]])
    return [
        f"### {datetime.now(UTC):%Y-%m-%d}: {machine.cpu}, {arguments.threads} threads",
        "",
        f"{', '.join(machine.cpu_features)}; kvscape {machine.kvscape_version}, {packages}, Python {machine.python}. "
        f"`{arguments.model}`, KV f16, medians of {arguments.rounds} alternating runs: `{command}`",
        "",
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="builds to compare")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has kvscape and llama_cpp")
    parser.add_argument("--no-append", action="store_true", help=f"leave {PAGE.name} as it is")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    sides = (Side(OURS, sys.executable), Side(THEIRS, arguments.peer_python))
    lines = heading(arguments)
    for line in lines:
        print(line)
    with turn(lambda: print(WAITING, file=sys.stderr)):
        for line in rows(sides, arguments):
            print(line, flush=True)
            lines.append(line)
    built = f"llama.cpp was compiled with {', '.join(sides[1].kernels[1:])}; kvscape ran {kernel_family(sides[0])}."
    print(f"\n{built}")
    for side in sides:
        side.close()
    if not (arguments.quick or arguments.no_append):
        PAGE.write_text(
            PAGE.read_text(encoding="utf-8") + "\n" + "\n".join([*lines, "", built]) + "\n", encoding="utf-8"
        )


def kernel_family(side: Side) -> str:
    """The kernels of the products, without their shapes."""
    names = {name.rsplit("_", 1)[0] for name in side.kernels if "matmul" in name}
    return ", ".join(sorted(names))


if __name__ == "__main__":
    main()
