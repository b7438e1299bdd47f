"""What all parts of a request have in common."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Ignored: TypeAlias = Any
"""A field of OpenAI's that changes no answer here: it is accepted and not read."""

Unsupported: TypeAlias = None
"""A field of OpenAI's that would change the answer: only null is accepted."""

TokenId: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    """A JSON object whose fields are all known, of exactly their types, and finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Answered(BaseModel):
    """A JSON object that the server sends."""

    model_config = ConfigDict(frozen=True)
