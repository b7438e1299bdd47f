"""What a model's text holds: content for the reader, and calls of tools."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

NewId: TypeAlias = Callable[[], str]
"""Makes the id of a call, another one each time."""


def new_call_id() -> str:
    """An id that no other call has."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class ToolCall:
    """A call that is complete; ``arguments`` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolParse:
    """A whole answer: what is left of its text without the calls, and the calls in their order."""

    content: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class ContentDelta:
    """A piece of the answer's content; never empty."""

    text: str


@dataclass(frozen=True)
class CallDelta:
    """A piece of call ``index``, as OpenAI streams it: ``id`` and ``name`` in its first one, then text of arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


ToolDelta: TypeAlias = ContentDelta | CallDelta


class ToolStream(Protocol):
    """The parser of one answer that grows."""

    def add(self, text: str) -> list[ToolDelta]:
        """Take the next piece of text; return what is certain now."""
        ...

    def finish(self) -> list[ToolDelta]:
        """Return what the end of the answer decides."""
        ...
