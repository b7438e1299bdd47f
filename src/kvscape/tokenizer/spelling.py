"""The bytes that a token adds to a text, for the two ways in which a vocabulary spells them."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers.decoders import Decoder

from kvscape.errors import UnsupportedModelError
from kvscape.tokenizer.byte_level import spelled_bytes
from kvscape.tokenizer.gguf_spm import SPACE

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Spelling:
    """``token_bytes`` of one token; ``strips`` says that a text's first space was put there by the tokenizer.

    ``added_bytes`` is of a token that is found in any text.
    """

    token_bytes: Callable[[str], bytes]
    added_bytes: Callable[[str], bytes]
    strips: bool = False


def find_spelling(decoder: Decoder | None) -> Spelling:
    """Return how a tokenizer spells; raise UnsupportedModelError for another way than the two known ones."""
    decoders = list(_flat(json.loads(decoder.__getstate__()))) if decoder else []
    kinds = [decoder.get("type") for decoder in decoders]
    if kinds == ["ByteLevel"]:
        return Spelling(spelled_bytes, str.encode)
    if "ByteFallback" in kinds and "ByteLevel" not in kinds:
        strips = any(decoder.get("type") == "Strip" and decoder.get("start") == 1 for decoder in decoders)
        return Spelling(_piece_bytes, _piece_text, strips)
    raise UnsupportedModelError(
        "the tokenizer is not supported", "it is neither byte-level BPE nor SentencePiece's BPE", "use another model"
    )


def _flat(decoder: Any) -> Iterator[dict[str, Any]]:
    if isinstance(decoder, dict) and decoder.get("type") == "Sequence":
        for inner in decoder.get("decoders", []):
            yield from _flat(inner)
    elif isinstance(decoder, dict):
        yield decoder


def _piece_bytes(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else _piece_text(piece)


def _piece_text(piece: str) -> bytes:
    return piece.replace(SPACE, " ").encode()
