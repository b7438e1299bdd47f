"""Whether a GPU says what the CPU says: ``gpu_equality.py FILE``, then ``gpu_equality.py FILE --libraries DIR`` there.

The first writes a text, greedy answers and perplexities of the processor, with activations in f32, to a JSON file; the
text is the built-in one, which is another where Python is of another version. The second makes the same on ``cuda:0``
with the libraries ``DIR/<quantization>.tar`` and prints both. It ends with status 1 where a perplexity is off by more
than its limit. Where two answers part, it prints the logits of both tokens on the GPU.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvscape import LLM, SamplingParams
from kvscape.config import BuildConfig, DesignPoint
from kvscape.config.point import DEFAULT_MODEL
from kvscape.quality import Settings, Text, built_in_text, measure_perplexity
from kvscape.subjects.kvscape_subject import KvscapeSubject

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small",
    "def fibonacci(n):",
    "Water boils at a temperature of",
    "The three primary colours are",
)
TOKENS = 64
SETTINGS = Settings("llamacpp", context=512, limit=20)
LIMITS = {"q0f16": 0.003, "q4f16_1": 0.005, "q4af16_1": 0.005}
EQUAL = "equal"
GREEDY = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)


def opened(model: str, quantization: str, **fields: Any) -> LLM:
    return LLM(model, quantization=quantization, context_window_size=512, **fields)


def known(file: Path) -> dict[str, Any]:
    """What the file holds; at first the text alone."""
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    return {"text": built_in_text().content}


def measured(llm: LLM, quantization: str, device: str, text: str) -> dict[str, Any]:
    """Prompts and answers as token ids, and the perplexity."""
    answers = [llm.generate(prompt, GREEDY) for prompt in PROMPTS]
    point = DesignPoint(BuildConfig(quantization=quantization, activation="float32", device=device), llm.engine.config)
    record = measure_perplexity(KvscapeSubject(llm), point, SETTINGS, Text("builtin", text))
    return {
        "prompts": [list(answer.prompt_token_ids) for answer in answers],
        "answers": [list(answer.token_ids) for answer in answers],
        "perplexity": record.perplexity,
        "tokens_scored": record.tokens_scored,
    }


def parting(llm: LLM, prompt: Sequence[int], here: Sequence[int], there: Sequence[int]) -> str:
    """Where two answers part, and how near the two tokens were."""
    first = next((at for at, pair in enumerate(zip(here, there, strict=True)) if pair[0] != pair[1]), None)
    if first is None:
        return EQUAL
    # The row that decides is the one before what is scored last, so a token more goes along.
    rows = np.concatenate([row.copy() for row in llm.engine.distributions([*prompt, *here[: first + 1]])])
    logits = rows[-1]
    mine, other = here[first], there[first]
    return f"token {first + 1}: {mine} has {logits[mine]:.4f}, the CPU's {other} {logits[other]:.4f}"


def on_cpu(file: Path, model: str, quantizations: Sequence[str]) -> int:
    found = known(file)
    for quantization in quantizations:
        with opened(model, quantization, activation="float32") as llm:
            found[quantization] = measured(llm, quantization, "cpu", found["text"])
        file.write_text(json.dumps(found) + "\n", encoding="utf-8")
        print(quantization, found[quantization]["perplexity"], flush=True)
    return 0


def on_gpu(file: Path, model: str, quantizations: Sequence[str], libraries: Path) -> int:
    bad, found = 0, known(file)
    print("| weights | CPU | GPU | off by | equal answers |\n| --- | ---: | ---: | ---: | ---: |")
    for quantization in quantizations:
        cpu, library = found[quantization], libraries / f"{quantization}.tar"
        with opened(model, quantization, device="cuda:0", model_lib=library) as llm:
            gpu = measured(llm, quantization, "cuda:0", found["text"])
            answers = zip(cpu["prompts"], gpu["answers"], cpu["answers"], strict=True)
            parts = [parting(llm, *one) for one in answers]
        off = gpu["perplexity"] / cpu["perplexity"] - 1
        bad += abs(off) > LIMITS[quantization] or cpu["prompts"] != gpu["prompts"]
        both = f"{cpu['perplexity']:.4f} | {gpu['perplexity']:.4f} | {off:+.3%}"
        print(f"| {quantization} | {both} | {parts.count(EQUAL)} of {len(parts)} |")
        ties = [f"  prompt {number + 1}: {part}" for number, part in enumerate(parts) if part != EQUAL]
        print("\n".join(ties), flush=True)
    return int(bad > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a GPU's answers and perplexities with the CPU's.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--libraries", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--quantizations", nargs="+", default=list(LIMITS))
    arguments = parser.parse_args()
    common = arguments.file, arguments.model, arguments.quantizations
    return on_gpu(*common, arguments.libraries) if arguments.libraries else on_cpu(*common)


if __name__ == "__main__":
    sys.exit(main())
