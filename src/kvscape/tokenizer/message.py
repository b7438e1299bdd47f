"""The messages of a conversation and the tools that a model may call, in the form of OpenAI's chat API.

Source: https://platform.openai.com/docs/api-reference/chat/create.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypeAlias, TypedDict


class CalledFunction(TypedDict):
    """What the model called; ``arguments`` is an object, or the JSON text of one."""

    name: str
    arguments: str | Mapping[str, Any]


class CalledTool(TypedDict, total=False):
    """One call of an assistant's message."""

    id: str
    type: Literal["function"]
    function: Required[CalledFunction]


class ToolMessage(TypedDict, total=False):
    """A message that takes part in tool use: the assistant's with ``tool_calls``, or a tool's answer to one of them.

    ``content`` is "" beside calls without a text.
    """

    role: Required[str]
    content: Required[str]
    name: str
    tool_calls: Sequence[CalledTool]
    tool_call_id: str


Message: TypeAlias = Mapping[str, str] | ToolMessage
"""``role`` (system, user, assistant or tool) and ``content``."""

Tool: TypeAlias = Mapping[str, Any]
"""``{"type": "function", "function": {"name", "description", "parameters"}}``; the parameters are a JSON schema."""
