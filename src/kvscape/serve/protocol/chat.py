"""``/v1/chat/completions``."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from kvscape.serve.protocol.messages import ChatMessage
from kvscape.serve.protocol.response_format import ResponseFormat
from kvscape.serve.protocol.sampling import SamplingFields
from kvscape.serve.protocol.strict import Answered, Ignored, Unsupported
from kvscape.serve.protocol.tools import ToolChoice, Tools
from kvscape.serve.protocol.usage import Usage

_MaxTokens: TypeAlias = Annotated[int, Field(ge=1, le=2**31)]

ChatFinish: TypeAlias = Literal["stop", "length", "tool_calls"]


class ChatRequest(SamplingFields):
    """A conversation to be gone on with."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_tokens: _MaxTokens | None = None
    max_completion_tokens: _MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    metadata: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None

    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    @property
    def most_tokens(self) -> int | None:
        """Of an answer; None: until the context is full."""
        return self.max_completion_tokens or self.max_tokens


class TopLogprob(Answered):
    """A token that was likely; ``bytes`` is null for a control token, which has no text."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprobs(TopLogprob):
    """The token that was chosen, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answered):
    """Log-probabilities under the model's own distribution, token by token."""

    content: list[TokenLogprobs]
    refusal: None = None


class CalledFunctionAnswer(Answered):
    """A function's name and its arguments, the text of a JSON object."""

    name: str
    arguments: str


class ToolCallAnswer(Answered):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunctionAnswer


class AnswerMessage(Answered):
    """What the assistant says, or which tools it calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(Answered):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish


class ChatCompletion(Answered):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
