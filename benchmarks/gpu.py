"""Speed on a GPU with random weights: ``gpu.py LIBRARY... FOLDER [--long] [--only ROW] [--rounds N] [--peer PYTHON]``.

``gpu_library.py`` makes the libraries anywhere. Needs TVM's runtime and numpy only. The weights go to ``FOLDER`` once.
Prefill is timed until the first token of every prompt is there, decode from then on; host time is what ``forward``
takes before it returns, while the GPU works. In each round all libraries have their turn.

With ``--peer``, a Python that has PyTorch, each library alternates with ``gpu_peer.py`` at batch 1 and 16: both
processes of a library compile at first, at the same time, and then stay for all rounds. One that fails is told of and
left out. Each measurement is printed and kept (``--json``) as soon as it is there, and whatever ends the run, the
tables of what there is come last. ``gpu_tables.py`` makes them again from the files.
"""

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import numpy as np
from gpu_peer_process import PeerError, PeerProcess
from gpu_tables import METRICS, OURS, Row, Samples, said, tables
from gpu_weights import write_weights

from kvscape.analysis.adapters import adapters
from kvscape.artifact.tensor_file import is_whole
from kvscape.config import EngineConfig
from kvscape.engine import Request, SamplingParams
from kvscape.engine.devices.cuda import CudaDevice
from kvscape.engine.devices.device import KVPools, Logits, StepInput
from kvscape.engine.devices.library import library_metadata
from kvscape.engine.devices.webgpu import WebgpuDevice
from kvscape.engine.engine import Engine
from kvscape.errors import KvscapeError
from kvscape.results import current_environment

DECODED = 64
SHORT = ((1, 512, "f16"), (4, 512, "f16"), (16, 512, "f16"))
WIDE = ((32, 512, "f16"), (64, 512, "f16"))  # where they are asked for
LONG = tuple((1, 8000, kv_dtype) for kv_dtype in ("f16", "int8", "int4", "fp8"))

Point = tuple[int, int, str]
"""Batch, tokens of each prompt, KV precision."""


class TimedDevice:
    """A device that keeps how long each ``forward`` kept the host."""

    def __init__(self, device: CudaDevice | WebgpuDevice) -> None:
        self._device = device
        self.host_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def forward(self, step: StepInput, pools: KVPools) -> Logits:
        start = time.perf_counter()
        logits = self._device.forward(step, pools)
        self.host_s.append(time.perf_counter() - start)
        return logits


def opened(library: Path, folder: Path) -> TimedDevice:
    metadata, weights = library_metadata(library), folder / f"{library.stem}.safetensors"
    if not is_whole(weights):
        write_weights(metadata, weights)
    if metadata.target == "wgsl":
        return TimedDevice(WebgpuDevice(library, weights, adapters().found[0]))
    return TimedDevice(CudaDevice(library, weights))


def measure(device: TimedDevice, batch: int, prompt: int, kv_dtype: str) -> dict[str, float]:
    """Prefill and decode of equal prompts: the better of two runs of prefill, the median step of decode."""
    config = EngineConfig(8192, 8192, batch, batch * (prompt + DECODED + 16), kv_dtype=kv_dtype, prefix_cache=False)
    engine, rng, prefills = Engine(device, config), np.random.default_rng(0), []
    for run in range(2):
        params = SamplingParams(max_tokens=DECODED, temperature=0.0, ignore_eos=True)
        for index in range(batch):
            token_ids = tuple(map(int, rng.integers(0, device.model.vocab_size, prompt)))
            engine.add(Request(f"{run}-{index}", token_ids, params))
        start, begun = time.perf_counter(), set[str]()
        while len(begun) < batch:  # prompts of more than one step begin to answer one after the other
            begun.update(output.request_id for output in engine.step())
        prefills.append(time.perf_counter() - start)
        steps, device.host_s = [], []
        while engine.has_work:
            start = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - start)
    found = (batch * prompt / min(prefills), batch / median(steps))
    return {**dict(zip(METRICS, found, strict=True)), "step_s": median(steps), "host_s": median(device.host_s)}


@dataclass
class Run:
    """What was asked for, and what was found so far."""

    folder: Path
    points: Sequence[Point]
    rounds: int
    patience_s: float
    file: Path | None
    samples: Samples

    def rows(self, library: Path) -> list[Row]:
        """Those that the library has a KV precision for."""
        known = library_metadata(library).kv_dtypes
        return [Row(OURS, library.stem, *point) for point in self.points if point[2] in known]

    def measure(self, device: TimedDevice, row: Row) -> None:
        """One row once; the others go on where there is no memory for it."""
        try:
            self.note(row, measure(device, *row[2:]))
        except KvscapeError as error:
            self.missing(f"{row.weights} {row.label}: {error}")

    def note(self, row: Row, found: Mapping[str, float]) -> None:
        self.samples.add(row, found)
        rest = "".join(f", {name[:-2]} {found[name] * 1e3:.2f} ms" for name in ("step_s", "host_s") if name in found)
        rates = ", ".join(f"{name.split('_')[0]} {found[name]:,.0f}" for name in METRICS)
        print(f"{row.who} {row.weights} {row.label}: {rates} tokens/s{rest}", flush=True)
        self.keep()

    def missing(self, failure: object) -> None:
        print(failure, flush=True)
        self.samples.failures.append(str(failure))
        self.keep()

    def keep(self) -> None:
        if self.file is not None:
            self.file.write_text(self.samples.to_json(), encoding="utf-8")


def alternate(run: Run, libraries: Sequence[Path]) -> None:
    """Ours alone: in each round every row of every library."""
    devices: dict[Path, TimedDevice] = {}
    for _, library in product(range(run.rounds), libraries):
        device = devices[library] = devices.get(library) or opened(library, run.folder)
        for row in run.rows(library):
            run.measure(device, row)


def alternate_with_peer(run: Run, library: Path, python: str) -> None:
    """One library's rows that have a peer, one after the other's."""
    rows = [(row, row.peer) for row in run.rows(library)]
    with ExitStack() as stack:
        peers = {peer: started(stack, python, peer) for _, peer in rows if peer}
        device = opened(library, run.folder)
        ready(run, peers)
        for _ in range(run.rounds):
            for row, peer in rows:
                run.measure(device, row)
                if peer in peers:
                    attempt(run, peers, peer, lambda process, peer=peer: run.note(peer, process.ask()))
        for peer in list(peers)[:1]:
            attempt(run, peers, peer, lambda process: run.samples.facts.update(process.ask("copy")))


def started(stack: ExitStack, python: str, peer: Row) -> PeerProcess:
    process = PeerProcess(python, peer.weights, peer.batch)
    stack.callback(process.close)
    return process


def ready(run: Run, peers: dict[Row, PeerProcess]) -> None:
    """Wait until all have compiled: what they do meanwhile would disturb a measurement."""
    end = time.monotonic() + run.patience_s
    for peer in list(peers):
        attempt(run, peers, peer, lambda process: process.wait(end - time.monotonic()))


def attempt(run: Run, peers: dict[Row, PeerProcess], peer: Row, do: Callable[[PeerProcess], object]) -> None:
    """A peer that fails once is asked no more."""
    try:
        do(peers[peer])
    except PeerError as failure:
        run.missing(failure)
        peers.pop(peer).close()


def facts(library: Path) -> dict[str, Any]:
    """Where and when: the GPU that the library is for."""
    here = current_environment("webgpu:0" if library_metadata(library).target == "wgsl" else "cuda:0")
    gpu = {"gpu": here.gpu, "driver": f"driver {here.gpu_driver}"} if here.gpu else {}
    return {**gpu, "kvscape": here.kvscape_version, "date": f"{datetime.now(UTC):%Y-%m-%d}", "command": sys.argv[1:]}


@contextmanager
def told(run: Run) -> Iterator[None]:
    """The tables at last, also where a signal ends the run."""
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        run.keep()
        print("\n".join([said(run.samples), "", *tables(run.samples), "", *run.samples.failures]), flush=True)


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def is_in(text: str, label: str) -> bool:
    """``4x512`` is no part of ``64x512``."""
    return re.search(rf"(?<!\d){re.escape(text)}", label) is not None


def chosen(arguments: argparse.Namespace) -> list[Point]:
    """Rows by their labels, or those that were asked for in kind."""
    rows = [Row(OURS, "", *point) for point in SHORT + LONG + WIDE]
    if arguments.only:
        rows = [row for row in rows if any(is_in(text, row.label) for text in arguments.only)]
    elif arguments.peer:
        rows = [row for row in rows if row.peer]
    else:
        rows = rows[: len(SHORT + LONG) if arguments.long else len(SHORT)]
    return [row[2:] for row in rows]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure speeds on a GPU, alternating with PyTorch.")
    parser.add_argument("places", nargs="+", type=Path, metavar="LIBRARY... FOLDER")
    parser.add_argument("--long", action="store_true", help="prompts of 8,000 tokens, too, in every KV precision")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="what is in a row's name, e.g. 16x512 or 'x8000 int8'")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with PyTorch, e.g. python3")
    parser.add_argument("--patience", type=float, default=240.0, help="seconds that the peers may compile")
    parser.add_argument("--json", type=Path, help="file that gets every sample")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    *libraries, folder = arguments.places
    if not libraries:
        sys.exit("error: which library? gpu.py LIBRARY... FOLDER; gpu_library.py makes one")
    samples = Samples(facts=facts(libraries[0]))
    run = Run(folder, chosen(arguments), arguments.rounds, arguments.patience, arguments.json, samples)
    with told(run):
        if arguments.peer:
            for library in libraries:
                alternate_with_peer(run, library, arguments.peer)
        else:
            alternate(run, libraries)


if __name__ == "__main__":
    main()
