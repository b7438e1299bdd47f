"""What the answer's text must be."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from kvscape.serve.protocol.strict import Ignored, Strict


class AnyText(Strict):
    """Anything."""

    type: Literal["text"]


class JsonObject(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    """A JSON schema; it always holds, whatever ``strict`` says."""

    name: str
    description: Ignored = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Ignored = None


class JsonSchema(Strict):
    """JSON of one schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat: TypeAlias = Annotated[AnyText | JsonObject | JsonSchema, Field(discriminator="type")]
