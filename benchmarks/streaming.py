"""Perplexity of a long text through a window, with sinks and without: ``python benchmarks/streaming.py TEXT [TOKENS]``.

The text runs through the KV cache once; memory is bounded by the window. Each row is the mean of 1,000 tokens.
"""

import sys
from pathlib import Path

import numpy as np

from kvscape import LLM

WINDOW, SINKS, SEGMENT = 512, (4, 0), 1000


def running_perplexity(text: str, tokens: int, sinks: int) -> tuple[np.ndarray, int]:
    """Perplexity of each segment, and the bytes of the KV cache."""
    with LLM(
        context_window_size=tokens, sliding_window_size=WINDOW, attention_sink_size=sinks, prefill_chunk_size=256
    ) as llm:
        nll = -llm.score(llm.tokenizer.encode(text)[:tokens])
        segments = [nll[start : start + SEGMENT].mean() for start in range(0, len(nll), SEGMENT)]
        return np.exp(np.array(segments)), llm.memory.kv_cache_bytes


def main(path: str, tokens: str = "20000") -> None:
    text = Path(path).read_text(encoding="utf-8")
    curves = {sinks: running_perplexity(text, int(tokens), sinks) for sinks in SINKS}
    for sinks, (_, nbytes) in curves.items():
        print(f"window {WINDOW}, sinks {sinks}: KV cache {nbytes / 2**20:.1f} MiB")
    print("tokens   " + "".join(f"sinks {sinks:<5}" for sinks in SINKS))
    for index, row in enumerate(zip(*(curve for curve, _ in curves.values()), strict=True)):
        print(f"{(index + 1) * SEGMENT:>7}  " + "".join(f"{value:<11.1f}" for value in row))


if __name__ == "__main__":
    main(*sys.argv[1:])
