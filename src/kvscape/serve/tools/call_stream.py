"""What the parsers of all formats share: text is held until it is certain what it is."""

import re
from abc import ABC, abstractmethod

from kvscape.serve.tools.call import NewId, ToolDelta, new_call_id
from kvscape.serve.tools.call_object import OPENING, ObjectEnd
from kvscape.serve.tools.deltas import Deltas

_SPACES = re.compile(r"\s*")


class CallStream(ABC):
    """The text that is not certain yet, and the object at its beginning if one is awaited.

    Everything is decided by the text so far alone, so that it does not matter how it was cut into pieces. A call is
    told when its object is complete: a beginning that never becomes a call must come out as content.
    """

    def __init__(self, new_id: NewId = new_call_id) -> None:
        self._deltas = Deltas(new_id)
        self._held = ""
        self._object: ObjectEnd | None = None

    def add(self, text: str) -> list[ToolDelta]:
        """Take the next piece of text; return what is certain now."""
        self._held += text
        while self._advance(ended=False):
            pass
        return self._deltas.take()

    def finish(self) -> list[ToolDelta]:
        """Return what the end of the answer decides."""
        while self._advance(ended=True):
            pass
        self._give(len(self._held))
        self._deltas.finish()
        return self._deltas.take()

    @abstractmethod
    def _advance(self, ended: bool) -> bool:
        """Take what is certain from what is held; return whether there may be more."""

    def _find_object(self, start: int) -> ObjectEnd | None:
        """Look for the end of the object at ``start``; None where none begins, or not yet."""
        if self._object is None and OPENING.match(self._held, start):
            self._object = ObjectEnd(start)
        if self._object is not None:
            self._object.look(self._held)
        return self._object

    def _may_open(self, start: int) -> bool:
        """Whether more text could still make an object begin at ``start``."""
        return self._held[start:].rstrip() in ("", "{")

    def _spaces_end(self, start: int) -> int:
        found = _SPACES.match(self._held, start)
        return found.end() if found else start

    def _give(self, length: int) -> bool:
        """Give the beginning of what is held as content; return whether there was any."""
        self._deltas.content(self._held[:length])
        return self._drop(length)

    def _call(self, call: tuple[str, str], length: int) -> bool:
        """Give a call, whose text is ``length`` characters of what is held."""
        self._deltas.call(*call)
        return self._drop(length)

    def _drop(self, length: int) -> bool:
        self._held, self._object = self._held[length:], None
        return length > 0


def marker_start(text: str, marker: str) -> int:
    """Return where ``marker`` is in ``text``, or where a beginning of it ends the text, or the text's length."""
    at = text.find(marker)
    if at >= 0:
        return at
    begun = (length for length in range(len(marker) - 1, 0, -1) if text.endswith(marker[:length]))
    return len(text) - next(begun, 0)
