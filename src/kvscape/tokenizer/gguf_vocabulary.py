"""The tokens of a GGUF file and what they are, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kvscape.errors import WeightsError

# GGUF's token types. Control tokens have no text of their own; user-defined ones are found in any text.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_ADDED = {UNKNOWN: True, CONTROL: True, USER_DEFINED: False}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids, the type of each, and the other keys of ``tokenizer.ggml``."""

    metadata: Mapping[str, Any]
    tokens: list[str]
    types: list[int]

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> "Vocabulary":
        tokens = _strings(metadata, "tokens")
        types = metadata.get("tokenizer.ggml.token_type")
        if not isinstance(types, list) or len(types) != len(tokens):
            raise damaged("token_type", f"does not give a type for each of {len(tokens)} tokens")
        return cls(metadata, tokens, types)

    def find(self, name: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{name}", default)

    def strings(self, name: str) -> list[str]:
        return _strings(self.metadata, name)

    @cached_property
    def ids(self) -> dict[str, int]:
        ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if len(ids) != len(self.tokens):
            raise damaged("tokens", "names a token twice")
        return ids

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """Tokens that are found in a text before anything else is done with it."""
        return [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": _ADDED[kind],
            }
            for token_id, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in _ADDED
        ]


def bpe_model(vocabulary: Vocabulary, merges: list[list[str]], **changes: Any) -> dict[str, Any]:
    """The ``model`` of a ``tokenizer.json``."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary.ids,
        "merges": merges,
        **changes,
    }


def damaged(name: str, why: str) -> WeightsError:
    return WeightsError(f"metadata tokenizer.ggml.{name}", why, "use another file of this model")


def _strings(metadata: Mapping[str, Any], name: str) -> list[str]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise damaged(name, "is missing or no list of texts")
    return values
