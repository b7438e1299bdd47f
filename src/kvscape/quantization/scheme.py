"""A quantization's name says the format of every tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.errors import ConfigError, near_match
from kvscape.quantization.format import FORMATS, Format

EMBEDDING = "model.embed_tokens"
HEAD = "lm_head"  # of models that do not use the embedding for it

# The format of every matrix; auto keeps each tensor as its file has it.
QUANTIZATIONS: Mapping[str, Format | None] = MappingProxyType(
    {
        "auto": None,
        "q0f32": FORMATS["f32"],
        "q0f16": FORMATS["f16"],
        **{name: fmt for name, fmt in FORMATS.items() if not fmt.is_float},
    }
)


@dataclass(frozen=True)
class Scheme:
    """A quantization, and another one for the embedding and ``lm_head`` or None for the same.

    Raises ConfigError for an unknown name.
    """

    quantization: str = "auto"
    embedding_quantization: str | None = None

    def __post_init__(self) -> None:
        _check("quantization", self.quantization)
        if self.embedding_quantization is not None:
            _check("embedding quantization", self.embedding_quantization)

    @property
    def embedding(self) -> str:
        """The quantization of embedding and head."""
        return self.embedding_quantization or self.quantization

    def format_of(self, name: str, shape: tuple[int, ...], own: Format) -> Format:
        """Return the format of one tensor; ``own`` is the format that keeps the file's values. Norms are f32 always."""
        if len(shape) == 1:
            return FORMATS["f32"]
        return QUANTIZATIONS[self.embedding if name in (EMBEDDING, HEAD) else self.quantization] or own


def _check(what: str, name: str) -> None:
    if name not in QUANTIZATIONS:
        raise ConfigError(f"unknown {what} {name!r}", "", near_match(name, QUANTIZATIONS))
