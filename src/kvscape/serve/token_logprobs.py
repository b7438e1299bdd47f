"""Log-probabilities in the two forms of OpenAI's API."""

import codecs
import math
from collections.abc import Sequence
from typing import Any

from kvscape.engine.request import Output
from kvscape.engine.token_logprob import TokenLogprob
from kvscape.serve.protocol.chat import ChatLogprobs, TokenLogprobs, TopLogprob
from kvscape.serve.protocol.completion import CompletionLogprobs
from kvscape.serve.served_model import ServedModel

_LEAST = -9999.0  # what OpenAI says of a token that cannot come


def shown_logprobs(output: Output, model: ServedModel) -> Sequence[TokenLogprob]:
    """Those of the tokens that belong to the answer: the token that ends the sequence does not."""
    ended = output.finish_reason == "stop" and output.token_ids and model.ends(output.token_ids[-1])
    return output.logprobs[:-1] if ended else output.logprobs


def chat_logprobs(logprobs: Sequence[TokenLogprob], number: int, model: ServedModel) -> ChatLogprobs:
    """With the ``number`` likeliest tokens in the place of each."""
    return ChatLogprobs(content=[_token(one, number, model) for one in logprobs])


def _token(one: TokenLogprob, number: int, model: ServedModel) -> TokenLogprobs:
    top = [TopLogprob(**_entry(*entry, model)) for entry in one.top[:number]]
    return TokenLogprobs(**_entry(one.token_id, one.logprob, model), top_logprobs=top)


def _entry(token_id: int, logprob: float, model: ServedModel) -> dict[str, Any]:
    spelled = model.tokenizer.token_bytes(token_id)
    text = spelled.decode("utf-8", "replace") if spelled else model.tokenizer.token_text(token_id)
    return {"token": text, "logprob": _finite(logprob), "bytes": list(spelled) or None}


class CompletionTokens:
    """The tokens of one choice's text so far, for the form of text completions."""

    def __init__(self, model: ServedModel, number: int) -> None:
        self._model, self._number, self._offset = model, number, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def described(self, tokens: Sequence[tuple[int, TokenLogprob | None]]) -> CompletionLogprobs:
        """The next tokens; before the first one of a prompt stands nothing that could make it likely."""
        return CompletionLogprobs(
            tokens=[_name(token_id, self._model) for token_id, _ in tokens],
            token_logprobs=[None if one is None else _finite(one.logprob) for _, one in tokens],
            top_logprobs=[self._likeliest(one) for _, one in tokens] if self._number else None,
            text_offset=[self._begin(token_id) for token_id, _ in tokens],
        )

    def _likeliest(self, one: TokenLogprob | None) -> dict[str, float] | None:
        if one is None:
            return None
        named: dict[str, float] = {}
        for token_id, logprob in (*one.top[: self._number], (one.token_id, one.logprob)):
            named.setdefault(_name(token_id, self._model), _finite(logprob))
        return named

    def _begin(self, token_id: int) -> int:
        begin = self._offset
        self._offset += len(self._decoder.decode(self._model.tokenizer.token_bytes(token_id)))
        return begin


def _name(token_id: int, model: ServedModel) -> str:
    """A token's text; one that is a part of a character is named by its bytes, as OpenAI does it."""
    spelled = model.tokenizer.token_bytes(token_id)
    if not spelled:
        return model.tokenizer.token_text(token_id)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LEAST
