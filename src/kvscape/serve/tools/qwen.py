"""Hermes' tags after a thought: ``<think>...</think>``, as Qwen 3 writes, in which a tag is only talked about."""

from kvscape.serve.tools.call import ContentDelta, NewId, ToolDelta, new_call_id
from kvscape.serve.tools.call_stream import marker_start
from kvscape.serve.tools.hermes import HermesStream

THINK, THOUGHT = "<think>", "</think>"


class QwenStream:
    """The thought is content as it stands; ``thinking`` says that the prompt has begun it."""

    def __init__(self, new_id: NewId = new_call_id, thinking: bool = False) -> None:
        self._answer = HermesStream(new_id)
        self._held = ""  # what may become, or end, a thought
        self._thinking, self._answering = thinking, False

    def add(self, text: str) -> list[ToolDelta]:
        """Take the next piece of text; return what is certain now."""
        if self._answering:
            return self._answer.add(text)
        self._held += text
        if not self._thinking:
            begun = self._held.lstrip()
            if THINK.startswith(begun) and begun != THINK:
                return []
            self._thinking, self._answering = begun.startswith(THINK), not begun.startswith(THINK)
        return self._think() if self._thinking else self._answer.add(self._take(len(self._held)))

    def finish(self) -> list[ToolDelta]:
        """Return what the end of the answer decides."""
        rest = self._take(len(self._held))
        return (
            [*_content(rest), *self._answer.finish()]
            if self._thinking
            else [*self._answer.add(rest), *self._answer.finish()]
        )

    def _think(self) -> list[ToolDelta]:
        at = marker_start(self._held, THOUGHT)
        self._answering = self._held.startswith(THOUGHT, at)
        self._thinking = not self._answering
        thought = _content(self._take(at + len(THOUGHT) * self._answering))
        return [*thought, *self._answer.add(self._take(len(self._held)))] if self._answering else thought

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def begins_thinking(prompt: str) -> bool:
    """Whether a prompt ends within a thought, as some templates leave it."""
    return prompt.rstrip().endswith(THINK)


def _content(text: str) -> list[ToolDelta]:
    return [ContentDelta(text)] if text else []
