"""Every CUDA kernel under NVIDIA's sanitizers: ``sanitize.py build FOLDER [sm_90]`` anywhere, ``run FOLDER`` there.

Each part of ``kernels.py`` is a library of its own, in small sizes, since a tool looks at all code that is loaded;
``--jobs`` of them run side by side. A line is printed as soon as a part is done, a summary of each tool at the end,
whatever ends the run. The status is 1 where a tool found something, or a part did not end well.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NoReturn

import kernels

TOOLS = ("racecheck", "memcheck", "synccheck", "initcheck")
_SUMMARY, _NUMBER = re.compile(r"========= (.*SUMMARY: .*)"), re.compile(r"\d+")


@dataclass(frozen=True)
class Found:
    """What a tool says of a part; ``text`` is all that was printed."""

    tool: str
    part: str
    seconds: float
    status: int
    text: str

    @property
    def summary(self) -> str:
        """The tool's last line, or the last of all."""
        said = _SUMMARY.findall(self.text) or self.text.strip().splitlines() or ["nothing"]
        return said[-1][:120]

    @property
    def is_clean(self) -> bool:
        """All that the tool counted is 0, and the numbers were good."""
        summaries = _SUMMARY.findall(self.text)
        counts = [int(number) for line in summaries for number in _NUMBER.findall(line)]
        return self.status == 0 and bool(counts) and not any(counts)

    def __str__(self) -> str:
        mark = "" if self.is_clean else f"  BAD (status {self.status})"
        return f"{self.tool:10} {self.part:40} {self.seconds:4.0f} s  {self.summary}{mark}"


@dataclass
class Sanitizers:
    """Runs parts under a tool; what runs is ended with this process."""

    program: str
    folder: Path
    limit_s: float
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def __call__(self, tool: str, part: str, number: int) -> Found:
        script = str(Path(kernels.__file__))
        target = [sys.executable, script, "run", str(library(self.folder, part)), "--only", part, "--small"]
        start = time.monotonic()
        status, text = self._run(number, [self.program, "--tool", tool, *target])
        found = Found(tool, part, time.monotonic() - start, status, text)
        self.folder.joinpath(f"{tool} {library(self.folder, part).stem}.txt").write_text(text, encoding="utf-8")
        return found

    def _run(self, number: int, command: Sequence[str]) -> tuple[int, str]:
        few = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")}  # of each part
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=few
        ) as process:
            self.running[number] = process
            try:
                text = process.communicate(timeout=self.limit_s)[0]
            except subprocess.TimeoutExpired:
                text = f"no end after {self.limit_s:g} s"
            finally:
                end(process)
            return process.returncode or 0, text

    def end(self) -> None:
        for process in self.running.values():
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End it and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def library(folder: Path, part: str) -> Path:
    return folder / (re.sub(r"[^\w]+", "_", part) + ".tar")


def build(folder: Path, architecture: str, only: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in kernels.chosen(only, replace(kernels.SMALL, architecture=architecture)):
        kernels.build(library(folder, part.name), architecture, [part])
        print(part.name, flush=True)


def run(sanitizers: Sanitizers, tools: Sequence[str], only: str, jobs: int) -> int:
    parts = [part.name for part in kernels.chosen(only, kernels.SMALL)]
    found: list[Found] = []
    with told(found, tools, len(parts)), ThreadPoolExecutor(jobs) as pool, ended(sanitizers, pool):
        asked = [pool.submit(sanitizers, tool, part, i) for i, (tool, part) in enumerate(product(tools, parts))]
        for one in each(asked):
            found.append(one)
            print(one, flush=True)
    return int(not all(one.is_clean for one in found))


def each(asked: Sequence[Future[Found]]) -> Iterator[Found]:
    return (future.result() for future in as_completed(asked))


@contextmanager
def ended(sanitizers: Sanitizers, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Whatever happens, nothing runs on."""
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        sanitizers.end()


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextmanager
def told(found: Sequence[Found], tools: Sequence[str], parts: int) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        for tool in tools:
            own = [one for one in found if one.tool == tool]
            bad = [one.part for one in own if not one.is_clean]
            said = f"{tool}: {len(own)} of {parts} parts, {len(bad)} bad{''.join(f', {name}' for name in bad)}"
            print(f"{said}, {sum(one.seconds for one in own):.0f} s of work", flush=True)
        print(f"in all {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the CUDA kernels under NVIDIA's sanitizers.")
    parser.add_argument("command", choices=("build", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("architecture", nargs="?", default="sm_90")
    parser.add_argument("--only", default="", help="what is in a part's name, e.g. linear or 'attention int4'")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS[:2]))
    parser.add_argument("--jobs", type=int, default=4, help="parts side by side")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds that a part may take")
    parser.add_argument("--sanitizer", default="compute-sanitizer", help="the program")
    asked = parser.parse_args()
    if asked.command == "run":
        return run(Sanitizers(asked.sanitizer, asked.folder, asked.limit), asked.tools, asked.only, asked.jobs)
    build(asked.folder, asked.architecture, asked.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
