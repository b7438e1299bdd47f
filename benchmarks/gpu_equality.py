"""Whether a GPU says what the CPU says: ``gpu_equality.py FILE``, then ``gpu_equality.py FILE --libraries DIR`` there.

The first writes a text, greedy answers and perplexities of the processor, with activations in f32, to a JSON file; the
text is the built-in one, which is another where Python is of another version. The second makes the same on ``cuda:0``
with the libraries ``DIR/<quantization>.tar`` and prints both. It ends with status 1 where a perplexity is off by more
than its limit. Where two answers part, it prints the logits of both tokens on the GPU. ``--kv-dtypes f16 int8 int4``
does so for each precision of the cache. A processor has no fp8: its f16 stands beside it, and the table says so; what
e4m3 itself costs is then in the difference.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
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
KV, GPUS_KV = "f16", "fp8"
GPUS_KV_LIMIT = 0.03  # twice what e4m3 costs in PyTorch (docs/gpu.md)
EQUAL = "equal"
GREEDY = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)


Case = tuple[str, str]
"""Quantization and KV precision."""


def opened(model: str, case: Case, **fields: Any) -> LLM:
    return LLM(model, quantization=case[0], kv_dtype=case[1], context_window_size=512, **fields)


def name(case: Case) -> str:
    """In the file."""
    quantization, kv_dtype = case
    return quantization if kv_dtype in (KV, GPUS_KV) else f"{quantization} {kv_dtype}"


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


def on_cpu(file: Path, model: str, cases: Sequence[Case]) -> int:
    found = known(file)
    for case in cases:
        if case[1] == GPUS_KV:
            continue
        with opened(model, case, activation="float32") as llm:
            found[name(case)] = measured(llm, case[0], "cpu", found["text"])
        file.write_text(json.dumps(found) + "\n", encoding="utf-8")
        print(name(case), found[name(case)]["perplexity"], flush=True)
    return 0


def on_gpu(file: Path, model: str, cases: Sequence[Case], libraries: Path) -> int:
    bad, found = 0, known(file)
    print("| weights | KV | CPU | GPU | off by | equal answers |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for case in cases:
        (quantization, kv_dtype), cpu = case, found[name(case)]
        with opened(model, case, device="cuda:0", model_lib=libraries / f"{quantization}.tar") as llm:
            gpu = measured(llm, quantization, "cuda:0", found["text"])
            answers = zip(cpu["prompts"], gpu["answers"], cpu["answers"], strict=True)
            parts = [parting(llm, *one) for one in answers]
        off = gpu["perplexity"] / cpu["perplexity"] - 1
        limit, of = (GPUS_KV_LIMIT, f" ({KV})") if kv_dtype == GPUS_KV else (LIMITS[quantization], "")
        bad += abs(off) > limit or cpu["prompts"] != gpu["prompts"]
        both = f"{cpu['perplexity']:.4f}{of} | {gpu['perplexity']:.4f} | {off:+.3%}"
        print(f"| {quantization} | {kv_dtype} | {both} | {parts.count(EQUAL)} of {len(parts)} |")
        ties = [f"  prompt {number + 1}: {part}" for number, part in enumerate(parts) if part != EQUAL]
        print(*ties, sep="\n", end="\n" * bool(ties), flush=True)
    return int(bad > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a GPU's answers and perplexities with the CPU's.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--libraries", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--quantizations", nargs="+", default=list(LIMITS))
    parser.add_argument("--kv-dtypes", nargs="+", default=[KV], metavar="KV")
    arguments = parser.parse_args()
    cases = list(product(arguments.quantizations, arguments.kv_dtypes))
    common = arguments.file, arguments.model, cases
    return on_gpu(*common, arguments.libraries) if arguments.libraries else on_cpu(*common)


if __name__ == "__main__":
    sys.exit(main())
