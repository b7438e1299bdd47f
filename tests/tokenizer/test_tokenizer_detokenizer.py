"""Text that grows token by token."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvscape.tokenizer import Detokenizer, Tokenizer, gguf_tokenizer
from kvscape.weights.readers.gguf_header import read_header


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf: Path) -> Tokenizer:
    return Tokenizer.from_json(gguf_tokenizer(read_header(tiny_gguf).metadata))


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.add(token) for token in ids), detokenizer.finish()]


def ids_of_bytes(tokenizer: Tokenizer, content: bytes) -> list[int]:
    token_of_byte = {tokenizer.token_bytes(token): token for token in range(3, 259)}
    return [token_of_byte[bytes([byte])] for byte in content]


def test_a_character_comes_whole(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, ids_of_bytes(tokenizer, "é😀".encode())) == ["", "é", "", "", "", "😀", ""]


def test_a_character_cut_by_the_end_is_replaced(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, ids_of_bytes(tokenizer, "a😀".encode()[:-1])) == ["a", "", "", "", "\ufffd"]


def test_a_byte_that_begins_nothing_is_replaced_at_once(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, ids_of_bytes(tokenizer, b"\xffa")) == ["\ufffd", "a", ""]


def test_an_interrupted_character_is_replaced_when_it_is_known_to_be(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, ids_of_bytes(tokenizer, b"\xf0\x9fa")) == ["", "", "\ufffda", ""]


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 320)))
def test_pieces_of_any_tokens_are_decode_of_all(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@settings(deadline=None)
@given(content=st.lists(st.sampled_from([b"\xf0", b"\x9f", b"\x98", b"\x80", b"\xed", b"\xa0", b"\xc3", b"a"])))
def test_pieces_of_broken_characters_are_decode_of_all(tokenizer: Tokenizer, content: list[bytes]) -> None:
    ids = ids_of_bytes(tokenizer, b"".join(content))
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8")))
def test_no_piece_of_good_text_has_a_replacement(tokenizer: Tokenizer, text: str) -> None:
    shown = pieces(tokenizer, tokenizer.encode(text))
    assert "".join(shown) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in shown)


def test_a_control_token_has_text_where_it_is_asked_for(tokenizer: Tokenizer) -> None:
    ids = [1, *tokenizer.encode("ä"), 2]
    detokenizer = Detokenizer(tokenizer, shown=["<|im_start|>", "<|not_there|>"])
    assert "".join([*map(detokenizer.add, ids), detokenizer.finish()]) == "<|im_start|>ä"
    assert tokenizer.decode(ids) == "ä"
