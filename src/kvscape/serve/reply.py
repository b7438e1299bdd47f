"""Readers of an answer's text that no format of calls is needed for."""

from collections.abc import Iterable

from kvscape.serve.tools import CallDelta, ContentDelta, ToolDelta, ToolStream
from kvscape.serve.tools.call import new_call_id
from kvscape.serve.tools.call_object import read_call


class PlainText:
    """All of it is content."""

    def add(self, text: str) -> list[ToolDelta]:
        return [ContentDelta(text)] if text else []

    def finish(self) -> list[ToolDelta]:
        return []


class NamedCall:
    """All of it is the arguments of one call: a guide sees to that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = False

    def add(self, text: str) -> list[ToolDelta]:
        if not text:
            return []
        opening: list[ToolDelta] = [] if self._begun else [CallDelta(0, new_call_id(), self._name)]
        self._begun = True
        return [*opening, CallDelta(0, arguments=text)]

    def finish(self) -> list[ToolDelta]:
        return []


class AnyCall:
    """An object of a name and arguments, told when it is whole; one that was cut short is content."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> list[ToolDelta]:
        self._text += text
        return []

    def finish(self) -> list[ToolDelta]:
        call = read_call(self._text)
        if call is None:
            return [ContentDelta(self._text)] if self._text else []
        return [CallDelta(0, new_call_id(), call[0]), CallDelta(0, arguments=call[1])]


class OneCall:
    """What another reader finds, without its calls after the first one."""

    def __init__(self, reply: ToolStream) -> None:
        self._reply = reply

    def add(self, text: str) -> list[ToolDelta]:
        return _first_call(self._reply.add(text))

    def finish(self) -> list[ToolDelta]:
        return _first_call(self._reply.finish())


def _first_call(deltas: Iterable[ToolDelta]) -> list[ToolDelta]:
    return [delta for delta in deltas if isinstance(delta, ContentDelta) or delta.index == 0]
