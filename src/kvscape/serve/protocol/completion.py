"""``/v1/completions``."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from kvscape.serve.protocol.sampling import MOST_CHOICES, SamplingFields
from kvscape.serve.protocol.strict import Answered, TokenId
from kvscape.serve.protocol.usage import Usage

CompletionFinish: TypeAlias = Literal["stop", "length"]

_TokenIds: TypeAlias = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
_Texts: TypeAlias = Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
_ListsOfIds: TypeAlias = Annotated[list[_TokenIds], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
Prompt: TypeAlias = str | _Texts | _TokenIds | _ListsOfIds


class CompletionRequest(SamplingFields):
    """Texts, or their tokens, to be gone on with."""

    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    suffix: str | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One for each answer, or for each ``n`` of them."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else list(self.prompt)


class CompletionLogprobs(Answered):
    """Log-probabilities, token by token; ``text_offset`` counts characters of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Answered):
    """One of the answers."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: CompletionFinish


class TextCompletion(Answered):
    """The whole answer."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str
