"""Speed on a GPU with random weights: ``gpu.py LIBRARY... FOLDER [--long] [--rounds N] [--peer PYTHON]``.

``gpu_library.py`` makes the libraries anywhere. Needs TVM's runtime and numpy only. The weights go to ``FOLDER`` once.
Prefill is timed until the first token of every prompt is there, decode from then on; host time is what ``forward``
takes before it returns, while the GPU works. In each round all libraries have their turn, then the peer
(``gpu_peer.py``, by a Python that has PyTorch); medians count.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.analysis.adapters import adapters
from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import TensorSpec, is_whole
from kvscape.artifact.tensor_writer import TensorWriter
from kvscape.config import EngineConfig
from kvscape.engine import Request, SamplingParams
from kvscape.engine.devices.cuda import CudaDevice
from kvscape.engine.devices.device import KVPools, Logits, StepInput
from kvscape.engine.devices.library import library_metadata
from kvscape.engine.devices.webgpu import WebgpuDevice
from kvscape.engine.engine import Engine
from kvscape.files import written_file
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS
from kvscape.weights.canonical import canonical_shapes

DECODED = 64
SHORT, LONG = ((1, 512, "f16"), (4, 512, "f16"), (16, 512, "f16")), ((1, 8000, "f16"), (1, 8000, "int8"))
PEERS = tuple((weights, batch) for weights in ("int4", "bf16") for batch in (1, 16))
METRICS = ("prefill_tokens_per_s", "decode_tokens_per_s")

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


@dataclass
class Row:
    """What was measured of one point, round after round."""

    metrics: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: dict[str, float]) -> None:
        for name, value in found.items():
            self.metrics.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        return median(self.metrics[name])


def packed(metadata: LibraryMetadata) -> Iterator[tuple[str, TensorSpec]]:
    """Name and shape of each packed tensor."""
    for name, shape in canonical_shapes(metadata.model).items():
        if len(shape) == 1:
            yield f"{name}.weight", TensorSpec("float32", shape)
            continue
        layout, fmt = LAYOUTS[metadata.layout], FORMATS[metadata.tensor_formats[name]]
        for part, (packed_shape, dtype) in layout.shapes(fmt, *shape).items():
            yield f"{name}.{part}", TensorSpec(dtype, packed_shape)


def numbers(spec: TensorSpec, is_float: bool, rng: np.random.Generator) -> NDArray[np.generic]:
    """Random codes or f16 numbers, small scales, norms of 1."""
    if spec.dtype == "float32":
        return np.ones(spec.shape, np.float32)
    if is_float:
        halves = (rng.standard_normal(1 << 20) * 0.02).astype(np.float16)
        return np.resize(halves, prod(spec.shape) // 2).view(np.uint8)
    if spec.dtype == "uint8":
        return np.frombuffer(rng.bytes(prod(spec.shape)), np.uint8)
    return np.resize((rng.random(1 << 16) * 0.008 + 0.002).astype(np.float16), spec.shape)


def write_weights(metadata: LibraryMetadata, path: Path) -> None:
    specs, rng = dict(packed(metadata)), np.random.default_rng(0)
    with written_file(path) as temporary, TensorWriter(temporary, specs) as writer:
        for name, spec in specs.items():
            fmt = metadata.tensor_formats.get(name.rsplit(".", 1)[0])
            writer.write(name, numbers(spec, fmt == "f16", rng))


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
        start, waiting = time.perf_counter(), batch
        while waiting:
            waiting -= len(engine.step())
        prefills.append(time.perf_counter() - start)
        steps, device.host_s = [], []
        while engine.has_work:
            start = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - start)
    found = (batch * prompt / min(prefills), batch / median(steps))
    return {**dict(zip(METRICS, found, strict=True)), "step_s": median(steps), "host_s": median(device.host_s)}


class Peer:
    """``gpu_peer.py`` in a process of its own, by a Python that has PyTorch."""

    def __init__(self, python: str) -> None:
        command = [python, str(Path(__file__).with_name("gpu_peer.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> dict[str, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def rounds(
    libraries: Sequence[Path], folder: Path, points: Sequence[Point], count: int, peer: Peer | None
) -> tuple[dict[tuple[str, Point], Row], dict[tuple[str, int], Row]]:
    """Ours by library and point, the peer's by weights and batch."""
    devices = {library.stem: opened(library, folder) for library in libraries}
    ours = {(name, point): Row() for name in devices for point in points}
    theirs = {entry: Row() for entry in PEERS if peer is not None}
    for _ in range(count):
        for (name, point), row in ours.items():
            row.add(found := measure(devices[name], *point))
            print(name, *point, {key: round(value, 6) for key, value in found.items()}, file=sys.stderr, flush=True)
        for (weights, batch), row in theirs.items():
            assert peer is not None
            row.add(peer.ask(f"{weights} {batch}"))
    return ours, theirs


def print_tables(ours: dict[tuple[str, Point], Row], theirs: dict[tuple[str, int], Row]) -> None:
    print("| weights | batch | prompt | KV | prefill tokens/s | decode tokens/s | step ms | host ms |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for (name, (batch, prompt, kv_dtype)), row in ours.items():
        speeds = " | ".join(f"{row[metric]:,.0f}" for metric in METRICS)
        times = f"{row['step_s'] * 1e3:.2f} | {row['host_s'] * 1e3:.2f}"
        print(f"| {name} | {batch} | {prompt:,} | {kv_dtype} | {speeds} | {times} |")
    if not theirs:
        return
    print("\n| weights | batch | prefill | PyTorch's | ratio | decode | PyTorch's | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (name, (batch, prompt, kv_dtype)), row in ours.items():
        other = theirs.get(("bf16" if name.startswith("q0") else "int4", batch))
        if other is not None and (prompt, kv_dtype) == (512, "f16"):
            pairs = [(row[metric], other[metric]) for metric in METRICS]
            parts = (f"{mine:,.0f} | {peers:,.0f} | {mine / peers:.2f}" for mine, peers in pairs)
            print(f"| {name} | {batch} | {' | '.join(parts)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure speeds on a GPU, alternating with PyTorch.")
    parser.add_argument("places", nargs="+", type=Path, metavar="LIBRARY... FOLDER")
    parser.add_argument("--long", action="store_true", help="prompts of 8,000 tokens, too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with PyTorch, e.g. python3")
    parser.add_argument("--json", type=Path, help="file that gets every sample")
    arguments = parser.parse_args()
    *libraries, folder = arguments.places
    points = SHORT + LONG if arguments.long else SHORT
    peer = Peer(arguments.peer) if arguments.peer else None
    ours, theirs = rounds(libraries, folder, points, arguments.rounds, peer)
    print_tables(ours, theirs)
    if peer is not None:
        print(f"\nPyTorch copies {peer.ask('copy')['copied_bytes_per_s'] / 1e9:,.0f} GB/s.")
        peer.close()
    if arguments.json is not None:
        samples: list[dict[str, Any]] = [{"who": list(map(str, key)), **row.metrics} for key, row in ours.items()]
        samples += [{"who": ["PyTorch", *map(str, key)], **row.metrics} for key, row in theirs.items()]
        arguments.json.write_text(json.dumps(samples) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
