"""Tokens of a GGUF file that begin and end a text. Source: llama.cpp's ``llama-vocab.cpp``."""

from collections.abc import Mapping
from typing import Any

from kvscape.errors import WeightsError

# Where the file does not say whether a text begins with a token, its tokenizer does.
_BEGIN_WITH_BOS = ("llama", "gemma")
_PRE_BEGIN_WITH_BOS = ("llama3", "llama-v3", "llama-bpe", "tekken")
# What ends a turn of chat models whose file does not say it.
_ENDS_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
_CONTROL, _USER_DEFINED = 3, 4


def bos_token_id(metadata: Mapping[str, Any], vocab_size: int) -> int | None:
    """The token that must begin a text; None where the model was trained without one."""
    implied = (
        metadata.get("tokenizer.ggml.model") in _BEGIN_WITH_BOS
        or metadata.get("tokenizer.ggml.pre") in _PRE_BEGIN_WITH_BOS
    )
    if not metadata.get("tokenizer.ggml.add_bos_token", implied):
        return None
    return _token(metadata, "bos", vocab_size)


def eos_token_ids(metadata: Mapping[str, Any], vocab_size: int) -> tuple[int, ...]:
    """The tokens that end a text or a turn."""
    ends = [_token(metadata, "eos", vocab_size), _token(metadata, "eot", vocab_size)]
    if ends[1] is None:
        ends.append(_end_of_turn(metadata))
    return tuple(dict.fromkeys(token for token in ends if token is not None))


def _end_of_turn(metadata: Mapping[str, Any]) -> int | None:
    tokens, types = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(types, list):
        return None
    found = [tokens.index(token) for token in _ENDS_OF_TURN if token in tokens]
    return next((at for at in found if at < len(types) and types[at] in (_CONTROL, _USER_DEFINED)), None)


def _token(metadata: Mapping[str, Any], name: str, vocab_size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = metadata.get(key)
    if value is not None and (type(value) is not int or not 0 <= value < vocab_size):
        raise WeightsError(f"metadata {key}", f"is {value!r}, not a token", "use another file of this model")
    return value
