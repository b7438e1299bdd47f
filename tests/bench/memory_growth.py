"""A process of its own that fills an LLM's KV cache, and prints by how much it has grown at most.

The baseline is the program with its imports; nothing is loaded yet. Heap that malloc keeps back is trimmed before the
baseline and before each step.
"""

import ctypes
import importlib
import json
import sys

import numpy as np
import psutil

from kvscape.analysis.memory import predict_memory
from kvscape.bench.peak_memory import peak_rss_bytes
from kvscape.engine import Engine, Request, SamplingParams
from kvscape.llm import LLM


def main(model: str, knobs: str, prompt_tokens: str) -> None:
    importlib.import_module("kvscape.engine.devices.cpu")  # an LLM imports it when it is made
    trim()
    before = psutil.Process().memory_info().rss
    llm = LLM(model, threads=2, **json.loads(knobs))
    fill(llm.engine, int(prompt_tokens))
    grown = peak_rss_bytes() - before
    memory = predict_memory(llm.metadata.model, llm.engine.config, llm.memory.weights_bytes, llm.metadata.workspaces)
    allocated = llm.engine.pools.nbytes
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
