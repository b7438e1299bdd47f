"""The text of an answer that comes token by token."""

import codecs

from kvscape.tokenizer.tokenizer import Tokenizer


class Detokenizer:
    """Gives text as soon as its characters are complete.

    All pieces together are ``decode`` of all tokens, with the space before the first word: an answer goes on.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> str:
        """Return the text that ``token_id`` completes: perhaps none, never a part of a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what the end of the answer leaves: U+FFFD for a character that was cut short."""
        return self._decoder.decode(b"", final=True)
