"""``kvscape serve`` under load, on this machine: ``python benchmarks/serve.py [--seconds 180] [--rounds 3]``.

Four questions. Throughput of 16 clients beside the engine's own batch of 16 and llama.cpp's, which decodes 16 sequences
in one batch, alternating, medians of the rounds. The 99th percentile of the time between tokens of 8 clients, quiet
and under a storm of long prompts, alternating too. Then 64 clients for ``--seconds``: what failed, whether the server's
resident memory grows, and whether every page is free afterwards. The table is appended to docs/performance.md unless
``--no-append``.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil

from kvscape.analysis.cpu import default_threads
from kvscape.bench import WAITING, turn
from kvscape.config import BuildConfig, DesignPoint, EngineConfig, Workload
from kvscape.config.point import DEFAULT_MODEL
from kvscape.results import current_environment

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
WORKER = Path(__file__).with_name("worker.py")
KVSCAPE = (sys.executable, "-m", "kvscape")
BATCH, PROMPT, OUTPUT, CONTEXT = 16, 32, 128, 1024
OUTPUT_RATE, DECODE_RATE = "output_tokens_per_s", "decode_tokens_per_s"
# Names of the builds at 4 bits with an embedding of 8, as llama.cpp's Q4_0 keeps it.
OURS, THEIRS = BuildConfig("", "q4f16_1", "q8f16_1"), BuildConfig("", "q4_0")
CLIENTS, STORM_CLIENTS, CROWD = 8, 4, 64
_START_S, _DRAIN_S = 300.0, 60.0
_WARM_UP = 1 / 3  # of the crowd's time: then pools, buffers and threads have their size


class Worker:
    """A subject in a process of its own."""

    def __init__(self, build: BuildConfig, subject: str, arguments: argparse.Namespace, python: str) -> None:
        engine = EngineConfig(context_window_size=256, max_batch_size=BATCH)
        work = Workload(prompt_tokens=PROMPT, max_tokens=OUTPUT)
        build = BuildConfig(arguments.model, build.quantization, build.embedding_quantization)
        self._point = DesignPoint(build, engine, work, subject, arguments.threads)
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def measure(self) -> Mapping[str, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._point.flat()) + "\n")
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process has ended"}')
        if "error" in answer:
            sys.exit(f"error: {self._point.subject}: {answer['error']}")
        return {name: float(answer[name]) for name in (OUTPUT_RATE, DECODE_RATE)}

    def close(self) -> None:
        self._process.communicate()


@dataclass(frozen=True)
class Server:
    """A running ``kvscape serve``."""

    url: str
    process: psutil.Process

    def gauge(self, name: str) -> float:
        text = urlopen(f"{self.url}/metrics").read().decode()
        return float(next(line for line in text.splitlines() if line.startswith(f"kvscape_{name} ")).split()[1])

    def rss_bytes(self) -> int:
        return sum(one.memory_info().rss for one in (self.process, *self.process.children(recursive=True)))

    def load(self, **flags: Any) -> dict[str, Any]:
        """The record of one load, measured by a process of its own."""
        done = subprocess.run(self._command(flags), capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    @contextmanager
    def loaded_meanwhile(self, **flags: Any) -> Iterator[None]:
        """Another load while the block runs."""
        process = subprocess.Popen(self._command(flags), stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def _command(self, flags: Mapping[str, Any]) -> list[str]:
        given = {"num_runs": 1, "endpoint_route": "completions", **flags}
        pairs = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        return [*KVSCAPE, "bench", "--endpoint", self.url, *pairs, "--json"]


@contextmanager
def served(arguments: argparse.Namespace) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--model", arguments.model, "--quantization", OURS.quantization, "--threads", str(arguments.threads)]
    flags += ["--embedding-quantization", str(OURS.embedding_quantization), "--max-batch-size", str(BATCH)]
    flags += ["--context-window-size", str(CONTEXT), "--port", str(port)]
    if arguments.prefill_chunk_size is not None:
        flags += ["--prefill-chunk-size", str(arguments.prefill_chunk_size)]
    process = subprocess.Popen([*KVSCAPE, "serve", *flags])
    server = Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    try:
        _wait(lambda: _is_up(server), _START_S, "the server did not start")
        yield server
    finally:
        process.terminate()
        process.wait(_DRAIN_S)


def _is_up(server: Server) -> bool:
    if not server.process.is_running() or server.process.status() == psutil.STATUS_ZOMBIE:
        sys.exit("error: the server has ended")
    try:
        return bool(urlopen(f"{server.url}/health").status == 200)
    except OSError:
        return False


def _wait(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"error: {otherwise}")
        time.sleep(0.2)


def throughput(server: Server, arguments: argparse.Namespace) -> Iterator[str]:
    """The server's tokens a second beside those of whole runs, prompts included, and of decoding alone."""
    workers = {"engine": Worker(OURS, "kvscape", arguments, sys.executable)}
    if not arguments.no_peer:
        workers["llama.cpp"] = Worker(THEIRS, "llamacpp", arguments, arguments.peer_python)
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in ("server", *workers)}
    for number in range(arguments.rounds):
        for name in found if number % 2 == 0 else reversed(found):
            found[name].append(workers[name].measure() if name in workers else _clients(server, arguments))
    for worker in workers.values():
        worker.close()
    ours = _median(found["server"], OUTPUT_RATE)
    yield f"| {BATCH} clients, {PROMPT} + {OUTPUT} tokens | {ours:,.0f} tokens/s | |"
    for name, wanted in {"engine": 0.85, "llama.cpp": 1.3}.items():
        for rate, words in ((OUTPUT_RATE, "whole runs"), (DECODE_RATE, "decoding alone")):
            if name in workers:
                other = _median(found[name], rate)
                what = f"against {name}'s batch of {BATCH}, {words}"
                yield f"| {what} | {other:,.0f} tokens/s, {ours / other:.2f}x | {wanted}x |"


def _clients(server: Server, arguments: argparse.Namespace) -> Mapping[str, float]:
    requests = arguments.requests * BATCH
    record = server.load(concurrency=BATCH, num_requests=requests, prompt_tokens=PROMPT, max_tokens=OUTPUT)
    return {OUTPUT_RATE: record["metrics"]["decode_tokens_per_s"]}


def _median(runs: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def storm(server: Server, arguments: argparse.Namespace) -> Iterator[str]:
    """Times between tokens of short requests, while long prompts come and while none does."""
    short = {"concurrency": CLIENTS, "duration_s": arguments.storm_seconds, "prompt_tokens": PROMPT, "max_tokens": 64}
    long = {"concurrency": STORM_CLIENTS, "duration_s": 600, "prompt_tokens": CONTEXT - 124, "max_tokens": 2}
    quiet, stormy = [], []
    for _ in range(arguments.rounds):
        quiet.append(server.load(**short)["metrics"]["itl_p99_s"])
        with server.loaded_meanwhile(**long):
            stormy.append(server.load(**short)["metrics"]["itl_p99_s"])
        _wait(lambda: server.gauge("requests_running") == 0, _DRAIN_S, "the storm did not end")
    before, after = (1e3 * statistics.median(times) for times in (quiet, stormy))
    yield f"| ITL of {CLIENTS} clients, 99th percentile | {before:,.0f} ms | |"
    name = f"the same while {STORM_CLIENTS} send prompts of {CONTEXT - 124} tokens"
    yield f"| {name} | {after:,.0f} ms, {after / before:.2f}x | at most 3x |"


def crowd(server: Server, arguments: argparse.Namespace) -> Iterator[str]:
    """Many clients for minutes: failures, the growth of memory after a warm-up, and pages that are left over."""
    samples: list[tuple[float, int]] = []
    ended = Event()

    def watch() -> None:
        start = time.monotonic()
        while not ended.wait(0.5):
            samples.append((time.monotonic() - start, server.rss_bytes()))

    watching = Thread(target=watch)
    watching.start()
    try:
        record = server.load(concurrency=CROWD, duration_s=arguments.seconds, prompt_tokens=64, max_tokens=48)
    finally:
        ended.set()
        watching.join()
    failures = {status: count for status, count in record["errors"].items() if not status.startswith("429")}
    refused = sum(count for status, count in record["errors"].items() if status.startswith("429"))
    _wait(lambda: server.gauge("kv_pages_used") == 0, _DRAIN_S, "pages are left over")
    facts, metrics = record["environment"], record["metrics"]
    yield f"| {CROWD} clients for {arguments.seconds:.0f} s | {facts['requests']:,} requests, {refused} x 429 | |"
    yield f"| their throughput | {metrics['decode_tokens_per_s']:,.0f} tokens/s, TTFT {metrics['ttft_s']:.2f} s | |"
    yield f"| errors other than 429 | {failures or 'none'} | none |"
    yield f"| pages in use afterwards | {server.gauge('kv_pages_used'):.0f} of {server.gauge('kv_pages'):,.0f} | 0 |"
    growth, most = _growth([one for one in samples if one[0] > _WARM_UP * samples[-1][0]])
    shown = f"{most / 2**20:,.0f} MiB, {growth:+.2%} by its slope"
    yield f"| resident memory after the first third | {shown} | within 2 % |"


def _growth(samples: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """Growth over all samples by the line through them, as a share of their mean; and the largest."""
    seconds, nbytes = np.array(samples, np.float64).T
    slope = float(np.polyfit(seconds, nbytes, 1)[0])
    return slope * float(seconds[-1] - seconds[0]) / float(nbytes.mean()), int(nbytes.max())


PARTS = {"throughput": throughput, "storm": storm, "crowd": crowd}


def heading(arguments: argparse.Namespace) -> list[str]:
    machine = current_environment()
    command = " ".join(["python benchmarks/serve.py", *sys.argv[1:]])
    return [
        f"### {datetime.now(UTC):%Y-%m-%d}: the server under load, {machine.cpu}, {arguments.threads} threads",
        "",
        f"{', '.join(machine.cpu_features)}; kvscape {machine.kvscape_version}, llama-cpp-python "
        f"{machine.packages['llama-cpp-python']}, Python {machine.python}. `{arguments.model}`, "
        f"{OURS.quantization} with {OURS.embedding_quantization} / Q4_0, "
        f"medians of {arguments.rounds} alternating runs: `{command}`",
        "",
        "| What | Found | Wanted |",
        "| --- | ---: | ---: |",
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefill-chunk-size", type=int, help="of the server; its own default where nothing is said")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=180, help="of the 64 clients")
    parser.add_argument("--storm-seconds", type=float, default=30, help="of each load of 8 clients")
    parser.add_argument("--requests", type=int, default=6, help="of each of the 16 clients in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has kvscape and llama_cpp")
    parser.add_argument("--no-peer", action="store_true", help="without llama.cpp")
    parser.add_argument("--no-append", action="store_true", help=f"leave {PAGE.name} as it is")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    lines = heading(arguments)
    print("\n".join(lines))
    with ExitStack() as stack:
        stack.enter_context(turn(lambda: print(WAITING, file=sys.stderr)))  # the loads are within it
        server = stack.enter_context(served(arguments))
        for name in arguments.parts:
            for line in PARTS[name](server, arguments):
                print(line, flush=True)
                lines.append(line)
    if not arguments.no_append:
        PAGE.write_text(PAGE.read_text(encoding="utf-8") + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
