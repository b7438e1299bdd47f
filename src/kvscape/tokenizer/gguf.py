"""The tokenizer of a GGUF file as a ``tokenizer.json``.

Sources: GGUF's keys (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); which pre-tokenizer a name in
``tokenizer.ggml.pre`` means is what llama.cpp's ``llama-vocab.cpp`` does for it.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kvscape.errors import UnsupportedModelError, WeightsError, near_match

# GPT-2's regular expression, then bytes as characters.
_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SINGLE_DIGITS = {"type": "Digits", "individual_digits": True}
PRE_TOKENIZERS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "gpt-2": _GPT2,
        "smollm": {"type": "Sequence", "pretokenizers": [_SINGLE_DIGITS, _GPT2]},
    }
)
# GGUF's token types. Control tokens have no text of their own; user-defined ones are found in any text.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4


def gguf_tokenizer(metadata: Mapping[str, Any]) -> str:
    """Return the ``tokenizer.json`` of a GGUF file's metadata.

    Raises UnsupportedModelError for a tokenizer that is not byte-level BPE or splits text in a way not known here, and
    WeightsError for metadata that contradicts itself.
    """
    _check_model(metadata.get("tokenizer.ggml.model"))
    tokens = _strings(metadata, "tokens")
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(tokens, _token_types(metadata, len(tokens))),
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(metadata.get("tokenizer.ggml.pre")),
        "post_processor": None,
        "decoder": _GPT2,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": _vocabulary(tokens),
            "merges": [_merge(merge) for merge in _strings(metadata, "merges")],
        },
    }
    return json.dumps(document, ensure_ascii=False)


def _check_model(name: Any) -> None:
    if name != "gpt2":
        raise UnsupportedModelError(
            f"tokenizer {name!r} is not supported", "only gpt2 (byte-level BPE) is", "use a model that has it"
        )


def _pre_tokenizer(name: Any) -> dict[str, Any]:
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"pre-tokenizer {name!r} is not supported", "", near_match(str(name), PRE_TOKENIZERS)
        )
    return PRE_TOKENIZERS[name]


def _strings(metadata: Mapping[str, Any], name: str) -> list[str]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _damaged(name, "is missing or no list of texts")
    return values


def _token_types(metadata: Mapping[str, Any], count: int) -> list[int]:
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != count:
        raise _damaged("token_type", f"does not give a type for each of {count} tokens")
    return types


def _vocabulary(tokens: list[str]) -> dict[str, int]:
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise _damaged("tokens", "names a token twice")
    return vocabulary


def _merge(merge: str) -> list[str]:
    # A byte-level vocabulary spells no token with a space, so the first one separates.
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise _damaged("merges", f"has {merge!r}, not two tokens")
    return [left, right]


def _added_tokens(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    kinds = {_UNKNOWN: True, _CONTROL: True, _USER_DEFINED: False}
    return [
        {
            "id": token_id,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kinds[kind],
        }
        for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in kinds
    ]


def _damaged(name: str, why: str) -> WeightsError:
    return WeightsError(f"metadata tokenizer.ggml.{name}", why, "use another file of this model")
