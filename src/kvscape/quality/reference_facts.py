"""What a reference was made of, so that no candidate is compared with another model's tokens."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from kvscape.config import DesignPoint, ModelConfig
from kvscape.errors import ConfigError
from kvscape.plain_text import Text
from kvscape.quality.protocols import Settings, Window
from kvscape.quality.reference_format import ReferenceFormat
from kvscape.version import __version__

VERSION = 1


class Maker(Protocol):
    """What a reference says of the subject that made it."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def build_key(self) -> str: ...
    def token_bytes(self, token_id: int) -> bytes: ...


@dataclass(frozen=True)
class ReferenceFacts:
    """What made it, and on what.

    ``parameters`` are the design point's, ``tokens_sha256`` is of all windows' tokens, ``rows`` counts the scored ones.
    """

    parameters: dict[str, Any]
    build_key: str
    vocab_size: int
    tokenizer_sha256: str
    settings: dict[str, Any]
    text: str
    text_sha256: str
    windows: int
    tokens_sha256: str
    rows: int
    top_k: int
    rest: str
    kvscape_version: str = __version__
    version: int = VERSION

    @property
    def form(self) -> ReferenceFormat:
        return ReferenceFormat(self.top_k, self.rest)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ReferenceFacts":
        """Raise ValueError or TypeError for anything else."""
        raw = json.loads(text)
        if raw.get("version") != VERSION:
            raise ValueError(f"its version is {raw.get('version')}, this kvscape reads {VERSION}")
        return cls(**raw)

    def check_same(self, wanted: "ReferenceFacts", name: str) -> None:
        """Raise ConfigError where ``wanted``, what is about to be compared, has other tokens or another protocol."""
        if (self.vocab_size, self.tokenizer_sha256) != (wanted.vocab_size, wanted.tokenizer_sha256):
            why = f"{self.vocab_size:,} tokens there, {wanted.vocab_size:,} here, not the same ones"
            raise ConfigError(f"the reference {name} was made with another tokenizer", why, "give one of this model")
        if self.text_sha256 != wanted.text_sha256:
            why = f"{self.text} there, {wanted.text} here, by their sha256"
            raise ConfigError(f"the reference {name} was made on another text", why, "score the same text")
        if self.settings != wanted.settings:
            why = f"{_words(self.settings, wanted.settings)} there, {_words(wanted.settings, self.settings)} here"
            raise ConfigError(f"the reference {name} was made under another protocol", why, "give the same flags")
        if self.tokens_sha256 != wanted.tokens_sha256:
            why = "this subject cuts the same text into other tokens"
            raise ConfigError(f"the reference {name} scored other tokens", why, "make it again with this version")


def _words(settings: dict[str, Any], other: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value != other.get(name))


def reference_facts(
    subject: Maker,
    point: DesignPoint,
    settings: Settings,
    text: Text,
    windows: Sequence[Window],
    form: ReferenceFormat | None = None,
) -> ReferenceFacts:
    """What a reference of these windows is, or would have to be."""
    kept = (form or ReferenceFormat()).fitted(subject.model.vocab_size)
    return ReferenceFacts(
        parameters=point.flat(),
        build_key=subject.build_key,
        vocab_size=subject.model.vocab_size,
        tokenizer_sha256=tokenizer_sha256(subject),
        settings=asdict(settings),
        text=text.name,
        text_sha256=text.sha256,
        windows=len(windows),
        tokens_sha256=_tokens_sha256(windows),
        rows=sum(len(window.token_ids) - window.first_target for window in windows),
        top_k=kept.top_k,
        rest=kept.rest,
    )


def tokenizer_sha256(subject: Maker) -> str:
    """Fingerprint of a vocabulary: what each token is as text, in order."""
    digest = hashlib.sha256()
    for token_id in range(subject.model.vocab_size):
        text = subject.token_bytes(token_id)
        digest.update(len(text).to_bytes(4, "little") + text)
    return digest.hexdigest()


def _tokens_sha256(windows: Sequence[Window]) -> str:
    digest = hashlib.sha256()
    for window in windows:
        digest.update(np.asarray([len(window.token_ids), window.first_target, *window.token_ids], "<i4").tobytes())
    return digest.hexdigest()
