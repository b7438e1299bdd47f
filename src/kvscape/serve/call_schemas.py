"""JSON schemas of calls that must be made."""

from collections.abc import Sequence
from typing import Any

from kvscape.serve.protocol.tools import Tool


def parameters_schema(tool: Tool) -> dict[str, Any]:
    """Of the arguments of one tool; without parameters, none."""
    return tool.function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Of a call of any of ``tools``: its name, then its arguments."""
    return {"anyOf": [_call(tool) for tool in tools]}


def _call(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.function.name}, "arguments": parameters_schema(tool)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
