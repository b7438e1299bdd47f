"""Answers that are JSON: guides made by ``llguidance`` from a JSON schema, for one model's vocabulary."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from kvscape.engine.guide import BoolArray, Guide
from kvscape.errors import ConfigError, EngineError
from kvscape.tokenizer import Tokenizer

if TYPE_CHECKING:
    import llguidance

Schema: TypeAlias = Mapping[str, Any]
MakeGuide: TypeAlias = Callable[[], Guide]

MOST_SCHEMA_CHARS = 100_000
_ANY_OBJECT: Schema = {"type": "object"}
_LAYOUT: dict[str, Any] = {
    # one space at most, and only behind a separator: white space alone could go on for ever
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    # a keyword that is not known is an error, not ignored
    "lenient": False,
    "coerce_one_of": True,
}


class JsonGuides:
    """Makes guides for one tokenizer; ``llguidance`` (extra ``serve``) is imported with the first one.

    ``vocab_size`` and ``eos_token_ids`` are the model's. Raises ConfigError without the package.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._package = _llguidance()
        self._vocab_size = vocab_size
        vocabulary = _Vocabulary(tokenizer, vocab_size, eos_token_ids)
        wrapped = self._package.TokenizerWrapper(vocabulary)
        slices = self._package.LLTokenizer.json_slices()
        self._tokenizer = self._package.LLTokenizer(wrapped, n_vocab=vocab_size, slices=slices)

    def any_object(self) -> MakeGuide:
        """Guides to any JSON object, as OpenAI's ``json_object`` asks for."""
        return self.schema(_ANY_OBJECT)

    def schema(self, schema: Schema | bool) -> MakeGuide:
        """Guides to what fits a JSON schema; raise ConfigError for one that is wrong, too large or not supported.

        A schema may refer to itself: the answer then ends where the model or ``max_tokens`` ends it.
        """
        try:
            grammar = self._package.LLMatcher.grammar_from_json_schema(_text(schema), overrides=_LAYOUT)
        except ValueError as error:
            raise _wrong(str(error)) from None
        first = self._package.LLMatcher(self._tokenizer, grammar, log_level=0)
        if first.is_error():
            raise _wrong(first.get_error())
        JsonGuide(first.deep_copy(), self._vocab_size).allowed()
        return lambda: JsonGuide(first.deep_copy(), self._vocab_size)


class JsonGuide:
    """Follows one answer; ``allowed`` raises ConfigError where a schema leads nowhere, as one that is only itself."""

    def __init__(self, matcher: "llguidance.LLMatcher", vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> BoolArray:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise _wrong(f"no text goes on as it says ({self._matcher.get_error().partition('<state>')[0].strip()})")
        return np.unpackbits(bits, bitorder="little", count=self._vocab_size).view(np.bool_)

    def accept(self, token_id: int) -> None:
        self._matcher.consume_token(token_id)
        if self._matcher.is_error():
            raise EngineError("the answer left its JSON schema", self._matcher.get_error(), "report it")

    @property
    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    @property
    def complete(self) -> bool:
        return self._matcher.is_stopped()


class _Vocabulary:
    """What ``llguidance`` asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = [token_id for token_id, text in enumerate(self.tokens) if not text]
        for token_id in self.special_token_ids:
            self.tokens[token_id] = (tokenizer.token_text(token_id) or f"<|{token_id}|>").encode()
        self.bos_token_id = tokenizer.bos_token_id
        self.eos_token_id = eos_token_ids[0] if eos_token_ids else vocab_size - 1

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        why = "the package llguidance is not installed"
        raise ConfigError("no answer in JSON", why, "pip install 'kvscape[serve]'") from None
    return llguidance


def _text(schema: Schema | bool) -> str:
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(str(error)) from None
    if len(text) > MOST_SCHEMA_CHARS:
        raise _wrong(f"it has {len(text):,} characters, at most {MOST_SCHEMA_CHARS:,} may be")
    return text


def _wrong(why: str) -> ConfigError:
    return ConfigError("the JSON schema cannot be used", why, "correct or simplify it")
