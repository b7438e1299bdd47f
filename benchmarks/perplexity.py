"""Perplexity on WikiText-2 beside llama.cpp's: ``python benchmarks/perplexity.py wiki.test.raw``.

The llamacpp protocol, 20 chunks of 512 tokens. The references are what llama.cpp says of the default model's weights
in F16: as they are, and rounded to q8f16_1 and q4f16_1 by the numpy reference. ``auto`` keeps the file's own codes, so
the weights are those of q0f32; its difference is what 8-bit activations and a cache in f16 cost.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from kvscape import LLM
from kvscape.quality import Settings, perplexity, text_from_file
from kvscape.quality.protocols import cut


@dataclass(frozen=True)
class Case:
    quantization: str
    kv_dtype: str
    reference: float
    tolerance: float


CASES = (
    Case("q0f32", "f32", 28.626, 0.003),
    Case("auto", "f16", 28.626, 0.01),
    Case("q8f16_1", "f16", 28.65, 0.006),
    Case("q4f16_1", "f16", 44.50, 0.015),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="WikiText-2's raw test file")
    parser.add_argument("--limit", type=int, default=20, help="chunks (the references are of 20)")
    arguments = parser.parse_args()
    text, settings = text_from_file(arguments.text), Settings("llamacpp", 512, arguments.limit)
    print(f"{'quantization':14}{'kv':6}{'perplexity':>11}{'+/-':>8}{'reference':>11}{'difference':>12}{'at most':>9}")
    for case in CASES:
        with LLM(quantization=case.quantization, kv_dtype=case.kv_dtype, context_window_size=512) as llm:
            windows = cut(llm.tokenizer.encode(text.content), settings, llm.tokenizer.bos_token_id)
            result = perplexity(llm.engine, windows)
        difference = result.perplexity / case.reference - 1
        print(
            f"{case.quantization:14}{case.kv_dtype:6}{result.perplexity:11.4f}{result.standard_error:8.3f}"
            f"{case.reference:11.3f}{difference:+12.2%}{case.tolerance:9.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
