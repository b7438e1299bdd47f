"""Perplexity of the default model on WikiText-2, beside what transformers says of the same weights.

``KVSCAPE_TEST_TEXT`` is the raw test file (see the README); ``tests/golden/regenerate.py`` wrote the reference.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from kvscape import LLM
from kvscape.quality import Perplexity, Settings, Text, perplexity, text_from_file
from kvscape.quality.protocols import cut

FILE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "smollm2.json").read_text(encoding="utf-8"))
GOLDEN = FILE["perplexity"]
SETTINGS = Settings(GOLDEN["protocol"], GOLDEN["context"], GOLDEN["limit"])


@pytest.fixture(scope="session")
def text(wikitext_file: Path) -> Text:
    text = text_from_file(wikitext_file)
    assert text.sha256 == GOLDEN["text_sha256"], f"{wikitext_file} is not WikiText-2's raw test file"
    return text


def measured(llm: LLM, text: Text) -> Perplexity:
    # the beginning is enough: encoding all of it takes as long as scoring two chunks
    tokens = llm.tokenizer.encode(text.content[:20_000])
    return perplexity(llm.engine, cut(tokens, SETTINGS, llm.tokenizer.bos_token_id))


def test_without_rounding_it_is_that_of_transformers(text: Text, default_q0f32: LLM) -> None:
    result = measured(default_q0f32, text)
    assert result.tokens_scored == GOLDEN["tokens_scored"]
    assert result.perplexity == pytest.approx(GOLDEN["perplexity"], rel=2e-5)


def test_the_files_own_codes_cost_less_than_one_percent(text: Text, default_auto: LLM) -> None:
    assert measured(default_auto, text).perplexity == pytest.approx(GOLDEN["perplexity"], rel=0.01)


@pytest.mark.parametrize("protocol", ["windows", "stride"])
def test_without_rounding_a_protocol_gives_transformers_loss(protocol: str, default_q0f32: LLM) -> None:
    golden = FILE["protocols"]
    settings = Settings(protocol, golden["context"], stride=golden["stride"] if protocol == "stride" else 0)
    result = perplexity(default_q0f32.engine, cut(FILE["prompts"][golden["prompt"]]["prompt_token_ids"], settings))
    assert result.perplexity == pytest.approx(golden["perplexity"][protocol], rel=1e-4)
