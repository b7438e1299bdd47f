"""The 256 printable characters that stand for bytes in a byte-level BPE vocabulary.

Source: ``bytes_to_unicode`` of GPT-2's encoder (https://github.com/openai/gpt-2): printable Latin-1 characters stand
for themselves; the other bytes, in order, are the characters from U+0100 on.
"""

from collections.abc import Mapping
from types import MappingProxyType


def _is_printable(byte: int) -> bool:
    return ord("!") <= byte <= ord("~") or ord("¡") <= byte <= ord("¬") or ord("®") <= byte


def _byte_of_character() -> dict[str, int]:
    hidden = [byte for byte in range(256) if not _is_printable(byte)]
    return {chr(byte): byte for byte in range(256) if _is_printable(byte)} | {
        chr(256 + index): byte for index, byte in enumerate(hidden)
    }


BYTE_OF_CHARACTER: Mapping[str, int] = MappingProxyType(_byte_of_character())


def spelled_bytes(token: str) -> bytes:
    """Return the bytes that a token of the vocabulary spells; one that is not spelled so stands for its own text."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, token))
    except KeyError:
        return token.encode()
