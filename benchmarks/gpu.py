"""Speed on a GPU of a compiled library, with random weights: ``gpu.py LIBRARY FOLDER [--long]``.

Needs TVM's runtime and numpy only. The weights go to ``FOLDER`` once. Prefill is timed until the first token of every
prompt is there, decode from then on; host time is what ``forward`` takes before it returns, while the GPU works.
"""

import sys
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact import LibraryMetadata
from kvscape.artifact.tensor_file import TensorSpec, is_whole
from kvscape.artifact.tensor_writer import TensorWriter
from kvscape.config import EngineConfig
from kvscape.engine import Request, SamplingParams
from kvscape.engine.devices.cuda import CudaDevice
from kvscape.engine.devices.device import KVPools, StepInput
from kvscape.engine.devices.library import library_metadata
from kvscape.engine.engine import Engine
from kvscape.files import written_file
from kvscape.quantization.format import FORMATS
from kvscape.quantization.layouts import LAYOUTS
from kvscape.weights.canonical import canonical_shapes

DECODED = 64


class TimedDevice(CudaDevice):
    """Keeps how long each ``forward`` kept the host."""

    host_s: list[float]

    def forward(self, step: StepInput, pools: KVPools):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        logits = super().forward(step, pools)
        self.host_s.append(time.perf_counter() - start)
        return logits


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


def measure(device: TimedDevice, batch: int, prompt: int, kv_dtype: str = "f16") -> str:
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
    step_s, host_s = median(steps), median(device.host_s)
    return (
        f"| {batch} | {prompt} | {kv_dtype} | {batch * prompt / min(prefills):,.0f} | {batch / step_s:,.0f} "
        f"| {step_s * 1e3:.2f} | {host_s * 1e3:.2f} |"
    )


def main() -> None:
    library, folder = Path(sys.argv[1]), Path(sys.argv[2])
    metadata, weights = library_metadata(library), folder / f"{library.stem}.safetensors"
    if not is_whole(weights):
        write_weights(metadata, weights)
    device = TimedDevice(library, weights)
    device.host_s = []
    print("| batch | prompt | KV | prefill tokens/s | decode tokens/s | step ms | host ms |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    points = [(1, 512, "f16"), (4, 512, "f16"), (16, 512, "f16")]
    if "--long" in sys.argv:
        points += [(1, 8000, "f16"), (1, 8000, "int8")]
    for point in points:
        print(measure(device, *point), flush=True)


if __name__ == "__main__":
    main()
