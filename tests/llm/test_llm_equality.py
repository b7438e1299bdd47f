"""The real model's greedy tokens are the same however the work is cut."""

from typing import Any

import pytest

from kvscape import LLM
from kvscape.config import EngineConfig
from kvscape.engine import Engine, Request, SamplingParams

TEXT = "The keys and values of every token lie in pages, and a page table says where. " * 5
LENGTHS = (61, 17, 90, 48)
GREEDY = SamplingParams(max_tokens=12, ignore_eos=True)
CUTS: dict[str, dict[str, Any]] = {
    "batched": {"max_batch_size": 4},
    "chunks of 7, pages of 8": {"prefill_chunk_size": 7, "page_size": 8},
    "pages of 32, batched, in chunks": {"page_size": 32, "max_batch_size": 3, "prefill_chunk_size": 32},
    "beside others, in small chunks": {"max_batch_size": 3, "mixed_chunk_size": 5},
    "preempted": {"max_batch_size": 4, "max_total_sequence_length": 160},
    "prefix cache": {"max_total_sequence_length": 512},
    "drafts": {"prompt_lookup_tokens": 5},
    "drafts, batched, preempted": {
        "prompt_lookup_tokens": 3, "max_batch_size": 4, "page_size": 8, "max_total_sequence_length": 160,
    },
}  # fmt: skip


def answers(llm: LLM, kv_dtype: str, n: int = 1, **knobs: Any) -> list[list[list[int]]]:
    """Tokens of each choice of each prompt; with the prefix cache in a second round."""
    config = EngineConfig(context_window_size=256, kv_dtype=kv_dtype, **knobs)
    engine = Engine(llm.device, config)
    ids = llm.tokenizer.encode(TEXT)
    for _ in range(2 if "max_total_sequence_length" in knobs else 1):
        got: list[list[list[int]]] = [[[] for _ in range(n)] for _ in LENGTHS]
        for number, length in enumerate(LENGTHS):
            params = SamplingParams(max_tokens=GREEDY.max_tokens, ignore_eos=True, n=n)
            engine.add(Request(str(number), tuple(ids[number : number + length]), params))
        while engine.has_work:
            for output in engine.step():
                got[int(output.request_id)][output.index] += output.token_ids
    return got


@pytest.mark.parametrize("kv_dtype", ["f16", "int8", "int4"])
def test_how_the_work_is_cut_changes_no_token(default_auto: LLM, kv_dtype: str) -> None:
    expected = answers(default_auto, kv_dtype, prefix_cache=False)
    assert len({tuple(answer[0]) for answer in expected}) > 1
    for name, knobs in CUTS.items():
        assert answers(default_auto, kv_dtype, **knobs) == expected, name
    forked = answers(default_auto, kv_dtype, n=3, max_batch_size=5)
    assert forked == [[answer[0]] * 3 for answer in expected]
