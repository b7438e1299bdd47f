"""From a chat request to what the engine is asked, and how its text is to be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kvscape.engine.guide import Guide
from kvscape.engine.request import Request
from kvscape.errors import KvscapeError
from kvscape.serve.call_schemas import call_schema, parameters_schema
from kvscape.serve.errors import ApiError
from kvscape.serve.protocol.chat import ChatRequest
from kvscape.serve.protocol.messages import conversation
from kvscape.serve.protocol.response_format import JsonObject, JsonSchema
from kvscape.serve.protocol.tools import ChosenTool, Tool
from kvscape.serve.reply import AnyCall, NamedCall, OneCall, PlainText
from kvscape.serve.served_model import ServedModel
from kvscape.serve.tools import ToolFormat, ToolStream, find_tool_format

OpenReply: TypeAlias = Callable[[], ToolStream]
MakeGuide: TypeAlias = Callable[[], Guide]


@dataclass(frozen=True)
class ChatPlan:
    """One request to the engine; ``open_reply`` makes what reads the text of one choice."""

    request: Request
    open_reply: OpenReply


def plan_chat(body: ChatRequest, request_id: str, model: ServedModel) -> ChatPlan:
    """Render the template, find tokens, guide and reply; raise ApiError for what cannot be. It may take a while."""
    _check(body)
    if model.loaded.chat_template is None:
        raise ApiError(400, "this model has no chat template; use /v1/completions", param="messages")
    tools = _tools(body)
    prompt, token_ids = _prompt(body, tools, model)
    free_format = _free_format(body, tools, model)
    request = Request(
        request_id,
        token_ids,
        body.sampling_params(body.most_tokens or model.context_tokens, _num_logprobs(body)),
        guide=_guide(body, tools, model),
        detokenizer=model.shows(free_format.special_tokens) if free_format else None,
    )
    return ChatPlan(request, _open_reply(body, tools, free_format, prompt))


def _check(body: ChatRequest) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    if body.tool_choice not in (None, "none") and not body.tools:
        raise ApiError(400, "tool_choice: there are no tools", param="tool_choice")
    if body.tools and body.tool_choice != "none" and isinstance(body.response_format, JsonObject | JsonSchema):
        raise ApiError(400, "response_format and tools do not go together here", param="response_format")


def _tools(body: ChatRequest) -> list[Tool]:
    """The tools that the model is told of: of a chosen one, it alone."""
    tools = list(body.tools or ())
    if isinstance(body.tool_choice, ChosenTool):
        name = body.tool_choice.function.name
        tools = [tool for tool in tools if tool.function.name == name][:1]
        if not tools:
            raise ApiError(400, f"tool_choice: there is no tool {name!r}", param="tool_choice")
    return [] if body.tool_choice == "none" else tools


def _prompt(body: ChatRequest, tools: Sequence[Tool], model: ServedModel) -> tuple[str, tuple[int, ...]]:
    shown = [tool.model_dump(exclude={"function": {"strict"}}, exclude_none=True) for tool in tools]
    try:
        prompt = model.loaded.chat_prompt(conversation(body.messages), shown or None)
        return prompt, tuple(model.encode_prompt(prompt))
    except KvscapeError as error:
        raise ApiError(400, str(error), param="messages") from None


def _must_call(body: ChatRequest) -> bool:
    return body.tool_choice == "required" or isinstance(body.tool_choice, ChosenTool)


def _free_format(body: ChatRequest, tools: Sequence[Tool], model: ServedModel) -> ToolFormat | None:
    """How the model writes calls where it may call, and need not."""
    template = model.loaded.chat_template
    return find_tool_format(template.source) if tools and not _must_call(body) and template else None


def _guide(body: ChatRequest, tools: Sequence[Tool], model: ServedModel) -> MakeGuide | None:
    try:
        if tools and _must_call(body):
            one = len(tools) == 1
            return model.guide(parameters_schema(tools[0]) if one else call_schema(tools))
        if isinstance(body.response_format, JsonSchema):
            return model.guide(body.response_format.json_schema.schema_)
        return model.guide({"type": "object"}) if isinstance(body.response_format, JsonObject) else None
    except KvscapeError as error:
        raise ApiError(400, str(error), param="tools" if tools else "response_format") from None


def _open_reply(body: ChatRequest, tools: Sequence[Tool], free_format: ToolFormat | None, prompt: str) -> OpenReply:
    if free_format and body.parallel_tool_calls is False:
        return lambda: OneCall(free_format.stream(prompt))
    if free_format:
        return lambda: free_format.stream(prompt)
    if tools and _must_call(body):
        return AnyCall if len(tools) > 1 else lambda: NamedCall(tools[0].function.name)
    return PlainText


def _num_logprobs(body: ChatRequest) -> int | None:
    return (body.top_logprobs or 0) if body.logprobs else None
