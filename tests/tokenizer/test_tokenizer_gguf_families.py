"""Every way to split and merge that GGUF files name, against the ids that llama.cpp finds with the same vocabulary."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.tokenizer import Detokenizer, Tokenizer, gguf_tokenizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizers.json").read_text(encoding="utf-8"))


def metadata(family: str, **changes: Any) -> dict[str, Any]:
    fields = {key: value for key, value in GOLDEN[family].items() if key != "ids"}
    return {f"tokenizer.ggml.{key}": value for key, value in {**fields, **changes}.items() if value is not None}


@cache
def bpe(pre: str | None) -> Tokenizer:
    return Tokenizer.from_json(gguf_tokenizer(metadata("bpe", pre=pre)))


@cache
def spm(add_space_prefix: bool, model: str = "llama") -> Tokenizer:
    return Tokenizer.from_json(gguf_tokenizer(metadata("spm", add_space_prefix=add_space_prefix, model=model)))


@pytest.mark.parametrize("pre", GOLDEN["bpe"]["ids"])
def test_byte_level_ids_are_those_of_llama_cpp(pre: str) -> None:
    for text, ids in GOLDEN["bpe"]["ids"][pre].items():
        assert bpe(pre).encode(text) == ids, text
        assert bpe(pre).decode(ids) == text


def test_families_differ() -> None:
    found = [json.dumps(ids) for ids in GOLDEN["bpe"]["ids"].values()]
    assert len(set(found)) == len(found)


def test_a_file_that_does_not_say_how_it_splits() -> None:
    assert bpe(None).encode("Hello 12345 x**2") == bpe("default").encode("Hello 12345 x**2")


def test_a_word_that_is_a_token_needs_no_merges_in_llama_3() -> None:
    tokens = [*GOLDEN["bpe"]["tokens"], "zqzqz"]
    fields = metadata("bpe", tokens=tokens, token_type=[1] * len(tokens))
    for pre, whole in (("llama-bpe", True), ("qwen2", False)):
        tokenizer = Tokenizer.from_json(gguf_tokenizer({**fields, "tokenizer.ggml.pre": pre}))
        assert (tokenizer.encode("zqzqz") == [len(tokens) - 1]) == whole


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_ids_are_those_of_llama_cpp(prefix: bool) -> None:
    for text, ids in GOLDEN["spm"]["ids"][str(prefix).lower()].items():
        assert spm(prefix).encode(text) == spm(prefix, "gemma").encode(text) == ids, text


def test_the_better_score_is_joined_first() -> None:
    tokens, types = ["<unk>", "a", "b", "c", "ab", "bc"], [2, 1, 1, 1, 1, 1]
    for scores, pieces in (([0, -9, -9, -9, -1, -2], ["ab", "c"]), ([0, -9, -9, -9, -2, -1], ["a", "bc"])):
        fields = {"tokens": tokens, "token_type": types, "scores": [float(score) for score in scores]}
        tokenizer = Tokenizer.from_json(gguf_tokenizer(metadata("spm", **fields, add_space_prefix=False)))
        assert [tokenizer.token_text(token) for token in tokenizer.encode("abc")] == pieces


@pytest.mark.parametrize("prefix", [True, False])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\u2581")))
def test_every_text_comes_back(prefix: bool, text: str) -> None:
    ids = spm(prefix).encode(text)
    assert spm(prefix).decode(ids) == text
    assert spm(prefix).decode(ids) == spm(prefix)._parsing.decode(ids, skip_special_tokens=False)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\u2581"), min_size=1))
def test_an_answer_comes_token_by_token_with_its_space(text: str) -> None:
    tokenizer = spm(True)
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) + detokenizer.finish() == " " + text


def test_a_character_of_several_byte_tokens_comes_whole() -> None:
    tokenizer = spm(False)
    detokenizer = Detokenizer(tokenizer)
    ids = tokenizer.encode("🏳")
    assert [tokenizer.token_text(token) for token in ids] == ["<0xF0>", "<0x9F>", "<0x8F>", "<0xB3>"]
    assert [detokenizer.add(token) for token in ids] == ["", "", "", "🏳"]


def test_text_that_looks_like_a_token_is_text_unless_it_is_parsed() -> None:
    tokenizer = spm(True)
    assert tokenizer.encode("<s>", parse_special=True) == [1]
    assert 1 not in tokenizer.encode("<s>") and tokenizer.decode(tokenizer.encode("<s>")) == "<s>"
    assert tokenizer.decode(tokenizer.encode("<0x41>")) == "<0x41>"
    assert tokenizer.token_bytes(1) == b"" and tokenizer.token_bytes(5 + 0x41) == b"A"


def test_without_bytes_a_strange_character_is_unknown() -> None:
    fields = GOLDEN["spm"]
    types = [1 if kind == 6 else kind for kind in fields["token_type"]]
    tokens = [token.replace("<0x", "<1x") for token in fields["tokens"]]
    tokenizer = Tokenizer.from_json(
        gguf_tokenizer(metadata("spm", tokens=tokens, token_type=types, add_space_prefix=False))
    )
    assert tokenizer.encode("🏳") == [0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scores", None, "scores: does not give a score for each of"),
        ("scores", [0.0], "scores: does not give a score for each of"),
        ("scores", [float("nan")] * len(GOLDEN["spm"]["tokens"]), "a score that is no number"),
        ("unknown_token_id", 10**6, "unknown_token_id: is 1000000, not a token"),
    ],
)
def test_pieces_that_contradict_themselves_are_an_error(key: str, value: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        gguf_tokenizer(metadata("spm", **{key: value}))


def test_a_tokenizer_that_removes_spaces_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="removes spaces"):
        gguf_tokenizer(metadata("spm", remove_extra_whitespaces=True))
