"""SentencePiece's BPE, which GGUF calls llama: pieces with scores, spaces as U+2581, unknown characters as bytes.

SentencePiece joins the two neighbours whose piece has the best score; as merges that is: each way to make a piece of
two others, the best scores first. Source: https://github.com/google/sentencepiece (``bpe_model.cc``), and what
llama.cpp's ``llama-vocab.cpp`` does with GGUF's keys.
"""

import math
from typing import Any

from kvscape.errors import UnsupportedModelError
from kvscape.tokenizer.gguf_vocabulary import BYTE, NORMAL, Vocabulary, bpe_model, damaged

SPACE = "\u2581"
# A longer piece than any real one would take quadratic time to split.
_LONGEST_PIECE = 512


def sentencepiece_bpe(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the parts of a ``tokenizer.json`` that are its own."""
    prefix = vocabulary.find("add_space_prefix", True)
    if vocabulary.find("remove_extra_whitespaces", False):
        raise UnsupportedModelError("a tokenizer that removes spaces is not supported", "", "use another model")
    to_pieces = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    to_text: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        to_pieces.insert(0, {"type": "Prepend", "prepend": SPACE})
        to_text.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": to_pieces},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": to_text},
        "model": bpe_model(
            vocabulary, _merges(vocabulary), unk_token=_unknown(vocabulary), byte_fallback=_bytes(vocabulary)
        ),
    }


def _merges(vocabulary: Vocabulary) -> list[list[str]]:
    """Only normal pieces are made of others: control tokens and bytes are not spelled."""
    scores, ids = _scores(vocabulary), vocabulary.ids
    normal = {token for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == NORMAL}
    found = [
        (-scores[ids[piece]], ids[piece], piece[:at], piece[at:])
        for piece in normal
        if len(piece) <= _LONGEST_PIECE
        for at in range(1, len(piece))
        if piece[:at] in normal and piece[at:] in normal
    ]
    return [[left, right] for _, _, left, right in sorted(found, key=lambda merge: (*merge[:2], len(merge[2])))]


def _scores(vocabulary: Vocabulary) -> list[float]:
    scores = vocabulary.find("scores")
    if not isinstance(scores, list) or len(scores) != len(vocabulary.tokens):
        raise damaged("scores", f"does not give a score for each of {len(vocabulary.tokens)} tokens")
    if not all(isinstance(score, int | float) and math.isfinite(score) for score in scores):
        raise damaged("scores", "has a score that is no number")
    return scores


def _unknown(vocabulary: Vocabulary) -> str | None:
    """What stands for a character that has neither piece nor bytes."""
    token_id = vocabulary.find("unknown_token_id", 0)
    if type(token_id) is not int or not 0 <= token_id < len(vocabulary.tokens):
        raise damaged("unknown_token_id", f"is {token_id!r}, not a token")
    return vocabulary.tokens[token_id]


def _bytes(vocabulary: Vocabulary) -> bool:
    """Whether every byte has a token."""
    spelled = {f"<0x{byte:02X}>" for byte in range(256)}
    return spelled <= {token for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == BYTE}
