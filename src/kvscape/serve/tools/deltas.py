"""The deltas of one answer, in order."""

from kvscape.serve.tools.call import CallDelta, ContentDelta, NewId, ToolDelta


class Deltas:
    """Collects deltas; spaces beside calls belong to neither content nor call.

    Spaces wait until it is known what follows them: a call, or the end after a call, drops them.
    """

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        self._ready: list[ToolDelta] = []
        self._spaces = ""
        self._calls = 0
        self._after_call = False

    def content(self, text: str) -> None:
        """Add text that is certainly content, but for the spaces at its end."""
        kept = text.rstrip()
        if kept:
            self._ready.append(ContentDelta(self._spaces + kept))
            self._spaces, self._after_call = "", False
        self._spaces += text[len(kept) :]

    def call(self, name: str, arguments: str) -> None:
        """Add a call that is complete."""
        index = self._calls
        self._ready.append(CallDelta(index, self._new_id(), name))
        self._ready.append(CallDelta(index, arguments=arguments))
        self._spaces, self._after_call, self._calls = "", True, index + 1

    def finish(self) -> None:
        """Decide about the last spaces."""
        if self._spaces and not self._after_call:
            self._ready.append(ContentDelta(self._spaces))
        self._spaces = ""

    def take(self) -> list[ToolDelta]:
        """Return what was added since the last time."""
        ready, self._ready = self._ready, []
        return ready
