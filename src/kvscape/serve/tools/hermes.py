"""Calls in tags: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, any number of them, text around them.

Hermes 2 Pro and later are trained on it (https://github.com/NousResearch/Hermes-Function-Calling), and Qwen 2.5.
"""

from kvscape.serve.tools.call_object import read_call
from kvscape.serve.tools.call_stream import CallStream, marker_start

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesStream(CallStream):
    """A call ends with its tag, or with the answer; a tag without a call is content, as is what follows it."""

    def _advance(self, ended: bool) -> bool:
        if not self._held.startswith(OPEN):
            return self._give(marker_start(self._held, OPEN)) and self._held.startswith(OPEN)
        start = self._spaces_end(len(OPEN))
        found = self._find_object(start)
        if found is None:
            return (ended or not self._may_open(start)) and self._give(len(OPEN))
        if found.end is None:
            return found.broken is not None and self._give(found.broken)
        return self._close(start, found.end, ended)

    def _close(self, start: int, end: int, ended: bool) -> bool:
        at = self._spaces_end(end)
        closed, closing = self._held.startswith(CLOSE, at), CLOSE.startswith(self._held[at:])
        if closing and not closed and not ended:
            return False
        call = read_call(self._held[start:end]) if closed or closing else None
        return self._give(end) if call is None else self._call(call, at + len(CLOSE))
