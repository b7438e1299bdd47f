"""One choice of a chat completion, as it grows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvscape.engine.request import Output
from kvscape.serve.protocol.chat import (
    AnswerMessage,
    CalledFunctionAnswer,
    ChatChoice,
    ChatFinish,
    ChatLogprobs,
    TokenLogprobs,
    ToolCallAnswer,
)
from kvscape.serve.served_model import ServedModel
from kvscape.serve.token_logprobs import chat_logprobs, shown_logprobs
from kvscape.serve.tools import CallDelta, ToolDelta, ToolStream, joined


@dataclass(frozen=True)
class Grown:
    """What one output added."""

    deltas: tuple[ToolDelta, ...]
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish | None


class GrowingChoice:
    """Reads the engine's outputs of one choice; ``num_logprobs`` None leaves log-probabilities out."""

    def __init__(self, reply: ToolStream, num_logprobs: int | None, model: ServedModel) -> None:
        self._reply, self._num_logprobs, self._model = reply, num_logprobs, model
        self._called = False

    def add(self, output: Output) -> Grown:
        deltas = self._reply.add(output.text)
        if output.finish_reason is not None:
            deltas += self._reply.finish()
        self._called = self._called or any(isinstance(delta, CallDelta) for delta in deltas)
        return Grown(tuple(deltas), self._logprobs(output), self._finish_reason(output))

    def _logprobs(self, output: Output) -> ChatLogprobs | None:
        if self._num_logprobs is None or not output.logprobs:
            return None
        return chat_logprobs(shown_logprobs(output, self._model), self._num_logprobs, self._model)

    def _finish_reason(self, output: Output) -> ChatFinish | None:
        if output.finish_reason is None:
            return None
        if output.finish_reason == "length":
            return "length"
        return "tool_calls" if self._called else "stop"


class WholeChoice:
    """Collects what a choice grew by."""

    def __init__(self, index: int, has_logprobs: bool) -> None:
        self._index = index
        self._deltas: list[ToolDelta] = []
        self._logprobs: list[TokenLogprobs] | None = [] if has_logprobs else None
        self._finish_reason: ChatFinish = "stop"

    def add(self, grown: Grown) -> None:
        self._deltas += grown.deltas
        if self._logprobs is not None and grown.logprobs is not None:
            self._logprobs += grown.logprobs.content
        self._finish_reason = grown.finish_reason or self._finish_reason

    def choice(self) -> ChatChoice:
        parsed = joined(self._deltas)
        calls = [
            ToolCallAnswer(id=call.id, function=CalledFunctionAnswer(name=call.name, arguments=call.arguments))
            for call in parsed.calls
        ]
        content = parsed.content if parsed.content or not calls else None
        return ChatChoice(
            index=self._index,
            message=AnswerMessage(content=content, tool_calls=calls or None),
            logprobs=None if self._logprobs is None else ChatLogprobs(content=self._logprobs),
            finish_reason=self._finish_reason,
        )


def delta_object(delta: ToolDelta) -> Mapping[str, Any]:
    """A delta as a stream says it."""
    if not isinstance(delta, CallDelta):
        return {"content": delta.text}
    function = {"arguments": delta.arguments}
    if delta.id is None:
        return {"tool_calls": [{"index": delta.index, "function": function}]}
    opening = {"index": delta.index, "id": delta.id, "type": "function"}
    return {"tool_calls": [{**opening, "function": {"name": delta.name, **function}}]}
