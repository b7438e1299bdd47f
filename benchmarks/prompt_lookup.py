"""Tokens per step with prompt lookup: ``python benchmarks/prompt_lookup.py [--model M] [--tokens 0 2 4 8]``.

Two prompts: one whose answer repeats its text, one whose answer does not. The answers must be the same with and without
drafts.
"""

import argparse
import time
from dataclasses import replace

from kvscape import LLM, SamplingParams
from kvscape.config.point import DEFAULT_MODEL

LIST = "\n".join(f"{number}. The quick brown fox number {number} jumps over the lazy dog." for number in range(1, 13))
PROMPTS = {"copies": f"Here is a list.\n{LIST}\n\nHere is the same list again.\n1. The", "writes": "Once upon a time"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--tokens", type=int, nargs="+", default=[0, 2, 4, 8], help="drafted in a step")
    parser.add_argument("--max-tokens", type=int, default=200)
    arguments = parser.parse_args()
    params = SamplingParams(max_tokens=arguments.max_tokens, ignore_eos=True)
    print("answer  drafted  tokens/step  accepted  tokens/s")
    plain: dict[str, tuple[int, ...]] = {}
    for drafted in arguments.tokens:
        with LLM(arguments.model, prompt_lookup_tokens=drafted, prefix_cache=False) as llm:
            for name, prompt in PROMPTS.items():
                before = replace(llm.engine.metrics)
                start = time.perf_counter()
                answer = llm.generate(prompt, params)
                seconds = time.perf_counter() - start
                assert plain.setdefault(name, answer.token_ids) == answer.token_ids, "a draft changed the answer"
                after, tokens = llm.engine.metrics, len(answer.token_ids)
                per_step = tokens / (after.steps - before.steps)
                tried, right = (
                    after.drafted_tokens - before.drafted_tokens,
                    after.accepted_tokens - before.accepted_tokens,
                )
                shown = f"{right / tried:.0%}" if tried else "-"
                print(f"{name:<7}{drafted:>8}{per_step:>13.2f}{shown:>10}{tokens / seconds:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
