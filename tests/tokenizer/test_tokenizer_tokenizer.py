"""Token ids, against llama.cpp's for the same file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvscape.errors import KvscapeError, UnsupportedModelError, WeightsError
from kvscape.tokenizer import Tokenizer, gguf_tokenizer
from kvscape.weights.readers.gguf_header import read_header

# Made with llama-cpp-python 0.3.36: Llama(file, vocab_only=True).tokenize(text.encode(), add_bos=False, special=False).
GOLDEN = {
    "👩‍👩‍👧‍👦 and 🏳️‍🌈, 🇩🇪!": [
        10813, 235, 119, 321, 231, 10813, 235, 119, 321, 231, 10813, 235, 117, 321, 231, 10813, 235, 116, 284, 15107,
        233, 128, 31752, 321, 231, 10813, 230, 226, 28, 15107, 225, 119, 10813, 225, 120, 17,
    ],
    "你好，世界。今天是2024年3月15日": [  # noqa: RUF001
        18645, 250, 48392, 138, 12831, 7906, 240, 178, 239, 230, 19076, 15076, 228, 18614, 119, 27830, 34, 32, 34, 36,
        32090, 129, 35, 14483, 226, 33, 37, 23274, 115,
    ],
    "def f(x):\n\treturn x**2  # it's 1_000.5\n": [
        1604, 275, 24, 104, 727, 198, 197, 5406, 1792, 828, 34, 216, 907, 357, 506, 216, 33, 79, 32, 32, 32, 30, 37,
        198,
    ],
    " \u00a0\u3000 a \r\n\n\t\tb\u200b  ": [
        3351, 250, 12109, 218, 253, 26410, 14436, 197, 82, 321, 229, 256,
    ],
    "1234567 ²½Ⅷ ٣٤ 3.14": [
        33, 34, 35, 36, 37, 38, 39, 216, 19133, 16738, 173, 223, 117, 216, 164, 113, 164, 114, 216, 35, 30, 33, 36,
    ],
    "I'll say it's DON'T, we've": [57, 3060, 1643, 357, 506, 422, 2154, 23, 68, 28, 392, 3543],
    "<|im_start|>user\nhi<|im_end|>": [
        44, 108, 306, 79, 3738, 108, 46, 4093, 198, 6004, 44, 108, 306, 79, 486, 108, 46,
    ],
    "": [],
}  # fmt: skip


@pytest.fixture(scope="session")
def smollm(default_gguf: Path) -> Tokenizer:
    return Tokenizer.from_json(gguf_tokenizer(read_header(default_gguf).metadata), bos_token_id=1)


@pytest.fixture(scope="session")
def tiny(tiny_gguf: Path) -> Tokenizer:
    return Tokenizer.from_json(gguf_tokenizer(read_header(tiny_gguf).metadata))


@pytest.mark.parametrize("text", GOLDEN)
def test_ids_are_those_of_llama_cpp(smollm: Tokenizer, text: str) -> None:
    assert smollm.encode(text) == GOLDEN[text]
    assert smollm.decode(GOLDEN[text]) == text


def test_ids_of_wikitext_2_are_those_of_llama_cpp(smollm: Tokenizer, wikitext_file: Path) -> None:
    text = wikitext_file.read_bytes().decode()
    ids = smollm.encode(text)
    assert len(ids) == 303_415
    sha256 = hashlib.sha256(np.array(ids, "<i4").tobytes()).hexdigest()
    assert sha256 == "18e663b61dd00f49796c8a6ae498b7dbe009cac4a2eaf3c67fa7d81baf47d945"
    assert smollm.decode(ids) == text


def test_control_tokens_are_parsed_where_asked(smollm: Tokenizer) -> None:
    assert smollm.encode("<|im_start|>user\nhi<|im_end|>", parse_special=True) == [1, 4093, 198, 6004, 2]


def test_control_tokens_have_no_text_but_a_name(smollm: Tokenizer) -> None:
    assert smollm.decode([1, 4093, 198, 6004, 2]) == "user\nhi"
    assert smollm.token_bytes(1) == b""
    assert smollm.token_text(1) == "<|im_start|>"


def test_bos_comes_first_where_asked_and_there_is_one(smollm: Tokenizer, tiny: Tokenizer) -> None:
    assert smollm.encode("hi", add_bos=True) == [1, *smollm.encode("hi")]
    assert smollm.encode("", add_bos=True) == [1]
    assert tiny.encode("hi", add_bos=True) == tiny.encode("hi")


def test_ids_beyond_the_vocabulary_have_no_text(tiny: Tokenizer) -> None:
    assert tiny.vocab_size == 320
    assert tiny.token_bytes(320) == tiny.token_bytes(-1) == b""
    assert tiny.token_text(320) == ""


def test_user_defined_tokens_are_found_in_any_text(tiny_gguf: Path) -> None:
    metadata = read_header(tiny_gguf).metadata
    types = list(metadata["tokenizer.ggml.token_type"])
    types[300] = 4
    name = metadata["tokenizer.ggml.tokens"][300]
    tokenizer = Tokenizer.from_json(gguf_tokenizer({**metadata, "tokenizer.ggml.token_type": types}))
    assert tokenizer.encode(name) == [300]
    assert tokenizer.decode([300]) == name


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8")))
def test_every_text_comes_back(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == text


@settings(deadline=None)
@given(ids=st.lists(st.integers(3, 258)))
def test_decode_is_that_of_the_tokenizers_package(tiny: Tokenizer, tiny_gguf: Path, ids: list[int]) -> None:
    assert tiny.decode(ids) == tiny._parsing.decode(ids)


def test_text_that_is_not_unicode_is_refused(tiny: Tokenizer) -> None:
    with pytest.raises(KvscapeError, match="not valid Unicode"):
        tiny.encode("\udcff")


def test_a_tokenizer_is_read_from_its_file(tiny_gguf: Path, tiny: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(gguf_tokenizer(read_header(tiny_gguf).metadata), encoding="utf-8")
    assert Tokenizer.from_file(path, bos_token_id=7).encode("the end", add_bos=True) == [7, *tiny.encode("the end")]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": 3}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(WeightsError):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_another_decoder_is_refused(tiny_gguf: Path) -> None:
    document = json.loads(gguf_tokenizer(read_header(tiny_gguf).metadata))
    with pytest.raises(UnsupportedModelError, match="neither byte-level BPE nor"):
        Tokenizer.from_json(json.dumps({**document, "decoder": {"type": "Fuse"}}))
