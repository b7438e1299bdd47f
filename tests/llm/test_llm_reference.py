"""The default model beside Hugging Face transformers, live, where the ``reference`` extra is installed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvscape import LLM, SamplingParams
from kvscape.plain_text import built_in_text
from kvscape.quality import Settings, perplexity
from kvscape.quality.protocols import cut

pytest.importorskip("torch", reason="the reference extra (torch, transformers) is not installed")
pytest.importorskip("transformers", reason="the reference extra (torch, transformers) is not installed")

from reference import load_reference, reference_greedy, reference_logprobs, reference_stride, reference_windows

TEXT = "Water boils at 100 °C at sea level.\n\n```python\nfor i in range(3):\n    print(i ** 2)\n```\n水在海平面沸腾。"


@pytest.fixture(scope="module")
def reference(default_gguf: Path) -> Iterator[Any]:
    yield load_reference(default_gguf)


def test_every_token_has_the_same_probability(default_q0f32: LLM, reference: Any) -> None:
    ids = default_q0f32.tokenizer.encode(TEXT, add_bos=True)
    np.testing.assert_allclose(default_q0f32.score(ids), reference_logprobs(reference, ids), atol=2e-3)


def test_greedy_tokens_are_the_same(default_q0f32: LLM, reference: Any) -> None:
    ids = default_q0f32.tokenizer.encode(TEXT, add_bos=True)
    (answer,) = default_q0f32.complete([ids], SamplingParams(max_tokens=16, ignore_eos=True))
    assert list(answer.token_ids) == [first for (first, _), _ in reference_greedy(reference, ids, 16)]


def test_the_golden_file_is_what_transformers_says(reference: Any) -> None:
    path = Path(__file__).parents[1] / "golden" / "smollm2.json"
    golden = json.loads(path.read_text(encoding="utf-8"))["prompts"]["chat"]
    steps = reference_greedy(reference, golden["prompt_token_ids"], 16)
    assert [first for (first, _), _ in steps] == golden["token_ids"][:16]


def test_windows_and_stride_have_its_losses(default_q0f32: LLM, reference: Any) -> None:
    ids = default_q0f32.tokenizer.encode(built_in_text().content[:900])[:130]
    windows = perplexity(default_q0f32.engine, cut(ids, Settings("windows", 64)))
    stride = perplexity(default_q0f32.engine, cut(ids, Settings("stride", 64, stride=33)))
    assert windows.perplexity == pytest.approx(reference_windows(reference, ids, 64), rel=1e-4)
    assert stride.perplexity == pytest.approx(reference_stride(reference, ids, 64, 33), rel=1e-4)
