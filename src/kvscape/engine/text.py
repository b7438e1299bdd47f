"""The text of one answer, as it grows."""

from typing import Protocol

from kvscape.engine.stop import StopMatcher


class Detokenizer(Protocol):
    """Turns tokens into text one by one and never splits a character."""

    def add(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class TextStream:
    """Tokens in, text out up to the first stop string; without a detokenizer there is no text."""

    def __init__(self, detokenizer: Detokenizer | None, stop: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._matcher = StopMatcher(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._matcher.matched

    def add(self, token_id: int) -> str:
        return self._matcher.add(self._detokenizer.add(token_id)) if self._detokenizer else ""

    def finish(self) -> str:
        """Return what was held back."""
        tail = self._matcher.add(self._detokenizer.finish()) if self._detokenizer else ""
        return tail + self._matcher.finish()
