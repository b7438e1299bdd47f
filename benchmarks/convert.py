"""Memory and time of a conversion: ``python benchmarks/convert.py [--shape llama-3-8b] [--layers 2] [--folder F]``.

A Hugging Face folder in bfloat16 of made-up weights is written first; then it is converted and packed, each in a
process of its own, whose largest resident memory must stay below the two largest tensors and 500 MB. The weights must
fit on the disk four times.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kvscape.config import ModelConfig
from kvscape.quantization.arrays import U16
from kvscape.weights.hf_config import hf_config
from kvscape.weights.hf_mapping import hf_parts
from kvscape.weights.readers.random import RANDOM, RandomSource
from kvscape.weights.source import SourceTensor

MB = 1e6
BLOCK_ROWS = 1024
CONVERT = (
    "import sys; from pathlib import Path; from kvscape.weights.convert import convert\n"
    "from kvscape.weights.sources import open_source\n"
    "convert(open_source(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3])"
)
PACK = (
    "import sys; from pathlib import Path; from kvscape.artifact import Artifact\n"
    "from kvscape.quantization.layouts import LAYOUTS; from kvscape.weights.pack import pack_weights\n"
    "pack_weights(Artifact(Path(sys.argv[2])), LAYOUTS['rows16'])"
)
PEAK = "from kvscape.bench.peak_memory import peak_rss_bytes; print(peak_rss_bytes())"


def write_folder(source: RandomSource, folder: Path) -> None:
    """Write config.json, tokenizer.json and model.safetensors, block by block."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**hf_config(source.config), "torch_dtype": "bfloat16"}))
    (folder / "tokenizer.json").write_text(source.tokenizer_json)
    header: dict[str, object] = {}
    end = 0
    for parts in hf_parts(source.config).values():
        for part in parts:
            start, end = end, end + 2 * math.prod(part.shape)
            header[part.name] = {"dtype": "BF16", "shape": part.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in source.stream():
            for block in bfloat16_blocks(tensor):
                file.write(block.data)


def bfloat16_blocks(tensor: SourceTensor) -> Iterator[U16]:
    """The upper halves of f32; the rows of joined tensors follow one another as their parts do."""
    for start in range(0, tensor.shape[0], BLOCK_ROWS):
        values = tensor.part(slice(start, start + BLOCK_ROWS)).values()
        yield (values.view(np.uint32) >> 16).astype(np.uint16)


def measured(code: str, *arguments: object) -> tuple[float, float]:
    """Seconds and the largest resident memory in MB of Python's ``code`` in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-c", f"{code}\n{PEAK}", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - start, int(done.stdout) / MB


def bound_mb(config: ModelConfig) -> float:
    sizes = sorted(2 * math.prod(part.shape) for parts in hf_parts(config).values() for part in parts)
    return sum(sizes[-2:]) / MB + 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3-8b")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write the weights; the system's folder for such files")
    arguments = parser.parse_args()
    source = RandomSource(f"{RANDOM}{arguments.shape}?layers={arguments.layers}")
    bound = bound_mb(source.config)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch) / "model"
        write_folder(source, folder)
        print(f"{arguments.shape}, {arguments.layers} layers: {source.nbytes / MB:,.0f} MB of bfloat16", flush=True)
        for quantization in ("auto", "q4f16_1"):
            for name, code in (("convert", CONVERT), ("pack", PACK)):
                seconds, peak = measured(code, folder, Path(scratch) / quantization, quantization)
                print(f"{name:<8}{quantization:<9}{seconds:8.1f} s{peak:8,.0f} MB of {bound:,.0f}", flush=True)
                if peak > bound:
                    sys.exit("error: more memory than the bound")


if __name__ == "__main__":
    main()
