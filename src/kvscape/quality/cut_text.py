"""A text as the windows that a subject scores, each with the bytes that its scored tokens stand for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kvscape.config import ModelConfig
from kvscape.errors import ConfigError
from kvscape.plain_text import Text
from kvscape.quality.protocols import Settings, Window, cut
from kvscape.quality.wikitext import detokenized, is_wikitext, pages


class Coder(Protocol):
    """The tokenizer's side of a subject."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def leading_token_id(self) -> int | None: ...
    def encode(self, text: str) -> list[int]: ...
    def token_bytes(self, token_id: int) -> bytes: ...


@dataclass(frozen=True)
class CutText:
    """Windows of a text, all tokens of which ``text_tokens`` counts."""

    windows: list[Window]
    text_tokens: int


def cut_text(coder: Coder, text: Text, settings: Settings) -> CutText:
    """Encode a text and cut it; raise ConfigError when it does not fill one window."""
    if settings.protocol == "word":
        return _cut_documents(coder, text, settings)
    token_ids = coder.encode(text.content)
    found = cut(token_ids, settings, coder.leading_token_id)
    lengths = {token: len(coder.token_bytes(token)) for window in found for token in set(window.token_ids)}
    return CutText([_with_bytes(window, lengths) for window in found], len(token_ids))


def _with_bytes(window: Window, lengths: dict[int, int]) -> Window:
    return replace(window, text_bytes=sum(lengths[token] for token in window.token_ids[window.first_target :]))


@dataclass(frozen=True)
class Document:
    """What is scored, and the words and bytes that it counts for."""

    content: str
    words: int
    text_bytes: int


def documents(text: Text) -> list[Document]:
    """WikiText's pages as they would be written, counted as they were published; other documents as they are."""
    if text.documents or not is_wikitext(text.content):
        parts = [(part, part) for part in text.documents or (text.content,)]
    else:
        parts = [(page, detokenized(page)) for page in pages(text.content)]
    # As lm-evaluation-harness counts: an empty string before or after the first or last space is a word too.
    return [Document(scored, len(re.split(r"\s+", part)), len(part.encode())) for part, scored in parts if part.strip()]


def _cut_documents(coder: Coder, text: Text, settings: Settings) -> CutText:
    begin = _begin(coder)
    chosen = documents(text)[: settings.limit]
    encoded = [(coder.encode(document.content), document) for document in chosen]
    windows = [window for tokens, document in encoded for window in _shared(tokens, document, settings, begin)]
    if not windows:
        raise ConfigError("the text has no tokens", "no document has one", "give another text")
    return CutText(windows, sum(len(tokens) for tokens, _ in encoded))


def _shared(token_ids: Sequence[int], document: Document, settings: Settings, begin: int | None) -> Iterator[Window]:
    """A document's windows, its words and bytes shared among them by their tokens."""
    windows = cut(token_ids, replace(settings, limit=None), begin) if token_ids else []
    total = sum(window.tokens_scored for window in windows)
    for window in windows:
        share = window.tokens_scored / total
        yield replace(window, words=share * document.words, text_bytes=share * document.text_bytes)


def _begin(coder: Coder) -> int | None:
    """What a document stands behind: the token that begins a text, else the one that ends a turn or text."""
    if coder.leading_token_id is not None:
        return coder.leading_token_id
    return next(iter(coder.model.eos_token_ids), None)
