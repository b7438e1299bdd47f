"""Who answers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from kvscape.tokenizer import Message


class Talker(Protocol):
    """A model, as the terminal sees it. Setting a temperature that makes no sense raises ConfigError."""

    temperature: float

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the answer in pieces; a generator is closed when no more is wanted."""
        ...

    def stats(self) -> str:
        """Describe the last answer's speed and the memory in use."""
        ...
