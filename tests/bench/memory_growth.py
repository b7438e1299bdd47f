"""A process of its own that fills an engine's KV cache, and prints by how much it has grown at most.

The baseline is the program with its imports and the compiled library's code; weights are mapped but not read yet. Heap
that malloc keeps back is trimmed before the baseline and before each step. The tokenizer is left out: the engine does
without it.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import psutil

from kvscape.analysis.memory import predict_memory
from kvscape.artifact.tensor_file import map_tensors
from kvscape.bench.peak_memory import peak_rss_bytes
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.engine.devices.cpu import CpuDevice


def main(library: str, weights: str, knobs: str, prompt_tokens: str) -> None:
    weights_bytes = sum(array.nbytes for array in map_tensors(Path(weights)).values())
    device = CpuDevice(Path(library), Path(weights), threads=2)
    trim()
    before = psutil.Process().memory_info().rss
    engine = Engine(device, EngineConfig(**json.loads(knobs)))
    fill(engine, int(prompt_tokens))
    memory = predict_memory(engine.model, engine.config, weights_bytes, device.metadata.workspaces)
    grown = peak_rss_bytes() - before
    allocated = engine.pools.nbytes
    print(
        json.dumps({"grown": grown, "predicted": memory.total_bytes, "kv": memory.kv_cache_bytes, "pools": allocated})
    )


def fill(engine: Engine, prompt_tokens: int) -> None:
    """Texts that share nothing, until every page has held tokens: the prefix cache keeps those that nobody needs."""
    generator = np.random.default_rng(0)
    pool = engine.cache.allocators[0].num_pages * engine.config.page_size
    for number in range(-(-pool // prompt_tokens)):
        text = tuple(generator.integers(3, engine.model.vocab_size, prompt_tokens).tolist())
        engine.add(Request(str(number), text, SamplingParams(max_tokens=1)))
    while engine.has_work:
        trim()
        engine.step()
    assert len(engine.cache.allocators[0].named) == engine.cache.allocators[0].num_pages


def trim() -> None:
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
