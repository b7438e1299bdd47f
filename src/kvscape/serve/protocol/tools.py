"""The functions that an assistant may call."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints

from kvscape.serve.protocol.strict import Ignored, Strict

_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Strict):
    """A function: its parameters are a JSON schema."""

    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Ignored = None


class Tool(Strict):
    """A function, as OpenAI wraps it."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Strict):
    """The name of the function that must be called."""

    name: _Name


class ChosenTool(Strict):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


Tools: TypeAlias = Annotated[list[Tool], Field(max_length=128)]
ToolChoice: TypeAlias = Literal["none", "auto", "required"] | ChosenTool
