"""The text of an answer that comes token by token."""

import codecs
from collections.abc import Iterable

from kvscape.tokenizer.tokenizer import Tokenizer


class Detokenizer:
    """Gives text as soon as its characters are complete.

    All pieces together are ``decode`` of all tokens, with the space before the first word: an answer goes on.
    ``shown`` names tokens that are part of this text even where they are control tokens, which have none by default.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._shown = {tokenizer.token_id(name): name.encode() for name in shown}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> str:
        """Return the text that ``token_id`` completes: perhaps none, never a part of a character."""
        spelled = self._shown.get(token_id)
        return self._decoder.decode(self._tokenizer.token_bytes(token_id) if spelled is None else spelled)

    def finish(self) -> str:
        """Return what the end of the answer leaves: U+FFFD for a character that was cut short."""
        return self._decoder.decode(b"", final=True)
