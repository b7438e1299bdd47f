"""llama.cpp's own tokenizer."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any

# LLAMA_TOKEN_ATTR: unknown, unused and control tokens are no text.
_NO_TEXT = 1 | 2 | 8


class Vocabulary:
    """Text to tokens and back."""

    def __init__(self, api: Any, model: Any) -> None:
        self._api, self._vocab = api, api.llama_model_get_vocab(model)

    @cached_property
    def ordinary_token_ids(self) -> Sequence[int]:
        size = int(self._api.llama_vocab_n_tokens(self._vocab))
        return [token for token in range(size) if not self._api.llama_vocab_get_attr(self._vocab, token) & _NO_TEXT]

    @property
    def leading_token_id(self) -> int | None:
        return int(self._api.llama_vocab_bos(self._vocab)) if self._api.llama_vocab_get_add_bos(self._vocab) else None

    def encode(self, text: str) -> list[int]:
        """Token ids without a leading token; what looks like a control token is text."""
        raw = text.encode()
        room = len(raw) + 2
        tokens = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, False)
        return list(tokens[:count])

    def decode(self, token_ids: Sequence[int]) -> str:
        tokens = (ctypes.c_int32 * len(token_ids))(*token_ids)
        room = 16
        while True:
            text = ctypes.create_string_buffer(room)
            size = self._api.llama_detokenize(self._vocab, tokens, len(token_ids), text, room, False, True)
            if size >= 0:
                return text.raw[:size].decode("utf-8", "replace")
            room = -size

    def token_bytes(self, token_id: int) -> bytes:
        room = 16
        while True:
            text = ctypes.create_string_buffer(room)
            size = self._api.llama_token_to_piece(self._vocab, token_id, text, room, 0, False)
            if size >= 0:
                return text.raw[:size]
            room = -size
