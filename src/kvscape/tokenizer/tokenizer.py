"""A model's tokenizer: byte-level or SentencePiece's BPE, run by the ``tokenizers`` package."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import tokenizers

from kvscape.errors import KvscapeError, WeightsError
from kvscape.tokenizer.spelling import find_spelling


class Tokenizer:
    """Tokens of a text and the text of tokens, for one ``tokenizer.json``.

    ``bos_token_id`` is the token that must begin a text, None where the model was trained without one. Raises
    WeightsError for a damaged file and UnsupportedModelError for a tokenizer that is neither of the two.
    """

    def __init__(self, tokenizer_json: str, bos_token_id: int | None = None) -> None:
        self._parsing = _parse(tokenizer_json)
        self._json, self._spelling = tokenizer_json, find_spelling(self._parsing.decoder)
        self._added = self._parsing.get_added_tokens_decoder()
        self._bytes: dict[int, bytes] = {}  # a start must not wait for the whole vocabulary
        self.bos_token_id = bos_token_id

    @classmethod
    def from_json(cls, tokenizer_json: str, bos_token_id: int | None = None) -> "Tokenizer":
        return cls(tokenizer_json, bos_token_id)

    @classmethod
    def from_file(cls, path: Path, bos_token_id: int | None = None) -> "Tokenizer":
        """Read a ``tokenizer.json``."""
        try:
            return cls(path.read_text(encoding="utf-8"), bos_token_id)
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read {path}", str(error), "convert the model again") from None

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """Another object, not a flag that is flipped between calls: an encode changes nothing. A chat needs none."""
        plain = _parse(self._json)
        plain.encode_special_tokens = True
        return plain

    @property
    def vocab_size(self) -> int:
        return self._parsing.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = False) -> list[int]:
        """Return the token ids of ``text``.

        ``parse_special`` takes text such as ``<|im_start|>`` for the control token it names, as a rendered chat
        template needs it; otherwise it is text like any other. ``add_bos`` puts ``bos_token_id``, if any, in front.
        """
        inner = self._parsing if parse_special else self._plain
        leading = [self.bos_token_id] if add_bos and self.bos_token_id is not None else []
        _check_unicode(text)
        return leading + inner.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of ``token_ids``: control tokens have none, bytes that are not UTF-8 become U+FFFD.

        It is a whole text: the space that SentencePiece puts before it is taken away again.
        """
        text = b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._spelling.strips else text

    def token_bytes(self, token_id: int) -> bytes:
        """Return what a token adds to the text: nothing for a control token or an id beyond the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[int(token_id)] = self._spelled(int(token_id))
        return known

    def _spelled(self, token_id: int) -> bytes:
        added = self._added.get(token_id)
        if added is not None:
            return b"" if added.special else self._spelling.added_bytes(added.content)
        token = self._parsing.id_to_token(token_id) if token_id >= 0 else None
        return b"" if token is None else self._spelling.token_bytes(token)

    def token_id(self, name: str) -> int | None:
        """Return the token that the vocabulary names so, None where there is none."""
        return self._parsing.token_to_id(name)

    def token_text(self, token_id: int) -> str:
        """Return how the vocabulary names a token: of a control token, the text that a chat template writes."""
        return self._parsing.id_to_token(token_id) or ""


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # Python keeps bytes of an argument that are not UTF-8 as lone surrogates
        raise KvscapeError("the text cannot be encoded", "it is not valid Unicode", "give it as UTF-8") from None


def _parse(tokenizer_json: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the package raises bare Exception for every fault of the file
        raise WeightsError("the tokenizer cannot be read", str(error), "convert the model again") from None
