"""Byte-level BPE, which GGUF calls gpt2.

How a text is split before it is merged has a name in ``tokenizer.ggml.pre``. Sources of the regular expressions: the
``tokenizer.json`` of each family's models; which name means which is what llama.cpp's ``llama-vocab.cpp`` does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kvscape.errors import UnsupportedModelError, near_match
from kvscape.tokenizer.gguf_vocabulary import Vocabulary, bpe_model, damaged

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
# GPT-2's regular expression, then bytes as characters.
_GPT2 = {**_BYTES, "use_regex": True}
_SINGLE_DIGITS = {"type": "Digits", "individual_digits": True}

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_SIGNS, _SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS_AND_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_LLAMA3 = "|".join([_CONTRACTIONS, _WORD, r"\p{N}{1,3}", _SIGNS, _SPACES])
_QWEN2 = "|".join([_CONTRACTIONS, _WORD, r"\p{N}", _SIGNS, _SPACES])
_TEKKEN = "|".join([*_CASED, r"\p{N}", _SIGNS_AND_SLASHES, _SPACES])
_GPT4O = "|".join([*(f"{word}{_CONTRACTIONS}?" for word in _CASED), r"\p{N}{1,3}", _SIGNS_AND_SLASHES, _SPACES])
# What llama.cpp does where the file does not say it.
_DEFAULT = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)


def _split(*patterns: str) -> dict[str, Any]:
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return {"type": "Sequence", "pretokenizers": [*splits, _BYTES]}


PRE_TOKENIZERS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "default": _split(*_DEFAULT),
        "gpt-2": _GPT2,
        "phi-2": _GPT2,
        "smollm": {"type": "Sequence", "pretokenizers": [_SINGLE_DIGITS, _GPT2]},
        **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), _split(_LLAMA3)),
        **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _split(_QWEN2)),
        "tekken": _split(_TEKKEN),
        "gpt-4o": _split(_GPT4O),
    }
)
# A word that is a token needs no merges.
_IGNORE_MERGES = ("llama-bpe", "llama3", "llama-v3", "tekken")


def byte_level_bpe(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the parts of a ``tokenizer.json`` that are its own."""
    name = vocabulary.find("pre", "default")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"pre-tokenizer {name!r} is not supported", "", near_match(str(name), PRE_TOKENIZERS)
        )
    merges = [_merge(merge) for merge in vocabulary.strings("merges")]
    return {
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[name],
        "decoder": _GPT2,
        "model": bpe_model(vocabulary, merges, ignore_merges=name in _IGNORE_MERGES),
    }


def _merge(merge: str) -> list[str]:
    # A byte-level vocabulary spells no token with a space, so the first one separates.
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise damaged("merges", f"has {merge!r}, not two tokens")
    return [left, right]
