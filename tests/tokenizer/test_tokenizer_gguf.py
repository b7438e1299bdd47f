"""The tokenizer.json of a GGUF file's metadata."""

from pathlib import Path
from typing import Any

import pytest

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.tokenizer import Tokenizer, gguf_tokenizer
from kvscape.weights.readers.gguf_header import read_header


@pytest.fixture
def metadata(tiny_gguf: Path) -> dict[str, Any]:
    return read_header(tiny_gguf).metadata


def names(metadata: dict[str, Any], text: str) -> list[str]:
    tokenizer = Tokenizer.from_json(gguf_tokenizer(metadata))
    return [tokenizer.token_text(token) for token in tokenizer.encode(text)]


def with_a_merge_of_digits(metadata: dict[str, Any], pre: str) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    return {
        **metadata,
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens[:-1], "12"],
        "tokenizer.ggml.merges": [*metadata["tokenizer.ggml.merges"], "1 2"],
    }


def test_merges_come_in_their_order(metadata: dict[str, Any]) -> None:
    assert names(metadata, "the sand") == ["t", "he", "Ġs", "and"]


def test_smollm_splits_digits_and_gpt_2_does_not(metadata: dict[str, Any]) -> None:
    assert names(with_a_merge_of_digits(metadata, "smollm"), "12 12") == ["1", "2", "Ġ", "1", "2"]
    assert names(with_a_merge_of_digits(metadata, "gpt-2"), "12 12") == ["12", "Ġ", "12"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "bert", "tokenizer 'bert' is not supported: gpt2 (byte-level BPE) and llama"),
        ("model", ["llama"], "is not supported: gpt2"),
        ("model", None, "tokenizer None is not supported"),
        ("pre", "viking", "pre-tokenizer 'viking' is not supported; choose one of dbrx, deepseek-r1-qwen, default"),
        ("pre", "smolm", "did you mean 'smollm'?"),
        ("pre", ["smollm"], "is not supported"),
    ],
)
def test_another_tokenizer_is_named(metadata: dict[str, Any], key: str, value: Any, message: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        gguf_tokenizer({**metadata, f"tokenizer.ggml.{key}": value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", None, "tokens: is missing"),
        ("tokens", [1, 2], "tokens: is missing or no list of texts"),
        ("tokens", ["a"] * 320, "tokens: names a token twice"),
        ("token_type", [1], "token_type: does not give a type for each of 320 tokens"),
        ("token_type", None, "token_type: does not give a type"),
        ("merges", None, "merges: is missing"),
        ("merges", ["ab"], "merges: has 'ab', not two tokens"),
        ("merges", [" b"], "not two tokens"),
    ],
)
def test_metadata_that_contradicts_itself_is_an_error(
    metadata: dict[str, Any], key: str, value: Any, message: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        gguf_tokenizer({**metadata, f"tokenizer.ggml.{key}": value})
    assert message in str(caught.value)


def test_a_merge_of_unknown_tokens_is_an_error(metadata: dict[str, Any]) -> None:
    with pytest.raises(WeightsError):
        Tokenizer.from_json(gguf_tokenizer({**metadata, "tokenizer.ggml.merges": ["q zz"]}))
