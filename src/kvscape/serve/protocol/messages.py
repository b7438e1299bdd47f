"""The messages of a conversation."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from kvscape.serve.protocol.strict import Ignored, Strict, Unsupported


class TextPart(Strict):
    """A piece of a message."""

    type: str
    text: str

    @field_validator("type")
    @classmethod
    def _is_text(cls, kind: str) -> str:
        if kind != "text":
            raise PydanticCustomError("unsupported", "this server reads text only, not {kind}", {"kind": kind})
        return kind


Content: TypeAlias = str | list[TextPart]


class CalledFunction(Strict):
    """A function and its arguments, which are the text of a JSON object."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(Strict):
    """What the assistant shall be like."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Strict):
    """What a user said."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(Strict):
    """What the assistant said, or which tools it called."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: Ignored = None
    audio: Unsupported = None
    function_call: Unsupported = None
    annotations: Ignored = None


class ToolMessage(Strict):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


ChatMessage: TypeAlias = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


def conversation(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as chat templates know them: text in one piece, "system" for "developer"."""
    return [_plain(message) for message in messages]


def _plain(message: ChatMessage) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": _text(message.content)}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        plain["name"] = message.name
    return plain


def _text(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)
