"""Calls as Llama 3.1 and later write them: ``{"name": ..., "parameters": {...}}`` in place of an answer.

Several are separated by a semicolon; ``<|python_tag|>`` may stand before them, and then text before it. An object that
stands in the middle of a text without that tag is no call. Source:
https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/.
"""

from enum import Enum, auto

from kvscape.serve.tools.call import NewId, new_call_id
from kvscape.serve.tools.call_object import read_call
from kvscape.serve.tools.call_stream import CallStream, marker_start

TAG = "<|python_tag|>"


class _Place(Enum):
    """Where the held text begins."""

    START = auto()
    AFTER_CALL = auto()
    CONTENT = auto()


class Llama3Stream(CallStream):
    """A call is one when its object ends."""

    def __init__(self, new_id: NewId = new_call_id) -> None:
        super().__init__(new_id)
        self._place = _Place.START

    def _advance(self, ended: bool) -> bool:
        if self._place is _Place.CONTENT and not self._held.startswith(TAG):
            return self._give(marker_start(self._held, TAG)) and self._held.startswith(TAG)
        start, undecided = self._lead()
        if undecided:
            return ended and self._end()
        found = self._find_object(start)
        if found is None:
            return (ended or not self._may_open(start)) and self._no_call(start)
        if found.end is None:
            return found.broken is not None and self._no_call(found.broken)
        call = read_call(self._held[start : found.end])
        if call is None:
            return self._no_call(found.end)
        self._place = _Place.AFTER_CALL
        return self._call(call, found.end)

    def _lead(self) -> tuple[int, bool]:
        """Skip what may stand before an object; return its end, and whether more text may change that."""
        at = self._spaces_end(0)
        if self._place is _Place.AFTER_CALL:
            if not self._held.startswith(";", at):
                return at, at == len(self._held)
            at = self._spaces_end(at + 1)
        if self._held.startswith(TAG, at):
            return self._spaces_end(at + len(TAG)), False
        return at, TAG.startswith(self._held[at:])

    def _end(self) -> bool:
        """The answer ends before anything is decided: a semicolon after a call has no use then."""
        if self._place is _Place.AFTER_CALL and self._held.strip() == ";":
            self._drop(len(self._held))
        return False

    def _no_call(self, length: int) -> bool:
        moved = self._place is not _Place.CONTENT
        self._place = _Place.CONTENT
        return self._give(length) or moved
