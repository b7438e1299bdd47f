"""Tokenizer, chat template and special tokens of a folder as Hugging Face lays it out."""

from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from kvscape.errors import WeightsError
from kvscape.tokenizer import with_tool_use
from kvscape.weights.readers.folder import ModelFolder

TOKENIZER = "tokenizer.json"
TEXT_FILES = (
    TOKENIZER,
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


class Texts:
    """What a folder says beside its weights. Raises WeightsError for what is missing or damaged."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        if not folder.has(TOKENIZER):
            why = "other forms of a tokenizer are not read" if folder.has("tokenizer.model") else "it is not there"
            raise WeightsError(f"{folder.path} has no {TOKENIZER}", why, "save the model's fast tokenizer beside it")
        self.tokenizer_json = folder.text(TOKENIZER)
        self._config = folder.optional_json("tokenizer_config.json")
        self._tokenizer = _parsed(folder, self.tokenizer_json)

    @property
    def chat_template(self) -> str | None:
        """The file's of its own, else that of the tokenizer, else of the processor."""
        if self.folder.has("chat_template.jinja"):
            return self.folder.text("chat_template.jinja")
        processor = self.folder.optional_json("chat_template.json")
        return _template(self._config.get("chat_template")) or _template(processor.get("chat_template"))

    def bos_token_id(self, named: Any) -> int | None:
        """Return the token that must begin a text: what the tokenizer adds by itself, ``named`` where it is told to."""
        adds = self._config.get("add_bos_token")
        if adds is False:
            return None
        own = self._token("bos_token")
        named = own if own is not None else named
        if adds is True and _is_id(named):
            return int(named)
        return self._added_first()

    def eos_token_ids(self, *named: Any) -> tuple[int, ...]:
        """Return the tokens that end a text: the tokenizer's, if it is among them, comes first."""
        ids = [token for value in named for token in _ids(value)]
        own = self._token("eos_token")
        return tuple(dict.fromkeys([own, *ids] if own is not None else ids))

    def _token(self, name: str) -> int | None:
        token = self._config.get(name)
        content = token.get("content") if isinstance(token, Mapping) else token
        return self.token_id(content) if isinstance(content, str) else None

    def token_id(self, text: str) -> int | None:
        """Return the token that the vocabulary calls ``text``."""
        try:
            return self._tokenizer.token_to_id(text)
        except UnicodeError:
            return None

    def _added_first(self) -> int | None:
        with_special, without = (self._tokenizer.encode("a", add_special_tokens=added).ids for added in (True, False))
        return with_special[0] if with_special and with_special[:1] != without[:1] else None


def _parsed(folder: ModelFolder, text: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises bare Exception for every fault of the file
        raise WeightsError(f"{folder.path / TOKENIZER} is damaged", str(error), "download it again") from None


def _template(value: Any) -> str | None:
    """A template, or the default one of a list of named ones, with the one for tools where there is one."""
    named: dict[Any, Any] = {"default": value}
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
    default, tool_use = named.get("default"), named.get("tool_use")
    if not isinstance(default, str):
        return None
    return with_tool_use(default, tool_use) if isinstance(tool_use, str) else default


def _ids(value: Any) -> Iterable[int]:
    return [token for token in (value if isinstance(value, list) else [value]) if _is_id(token)]


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0
