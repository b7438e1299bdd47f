"""``/v1/chat/completions`` and ``/v1/completions``."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from kvscape.serve.abandoned import ClientGoneError, unless_gone
from kvscape.serve.answers import Answers
from kvscape.serve.body import JsonRoute
from kvscape.serve.chat import Chat
from kvscape.serve.chat_plan import plan_chat
from kvscape.serve.completion import Completion
from kvscape.serve.completion_plan import plan_completion
from kvscape.serve.envelope import Envelope, new_id
from kvscape.serve.errors import ApiError, no_model, too_slow
from kvscape.serve.event_stream import EventStream
from kvscape.serve.outcome import CLIENT_GONE, set_outcome
from kvscape.serve.protocol.chat import ChatCompletion, ChatRequest
from kvscape.serve.protocol.completion import CompletionRequest, TextCompletion
from kvscape.serve.protocol.error import ErrorAnswer
from kvscape.serve.protocol.sampling import SamplingFields
from kvscape.serve.service import Service

_SHORT_BYTES = 4096

ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorAnswer, "description": "What is wrong"}}


def openai_routes(service: Service) -> APIRouter:
    """The paths of one service."""
    router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=ERRORS)

    @router.post("/chat/completions", response_model=ChatCompletion)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        envelope = _envelope("chatcmpl", body, service)
        long = await _is_long(request) or bool(body.tools or body.response_format)
        plan = await service.workers.run(long, plan_chat, body, envelope.id, service.model)
        answers = Answers(service.engine, [plan.request], service.metrics)
        return await _respond(Chat(plan, answers, envelope, service.model), answers, body, request, service)

    @router.post("/completions", response_model=TextCompletion)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on with texts."""
        envelope = _envelope("cmpl", body, service)
        plan = await service.workers.run(await _is_long(request), plan_completion, body, envelope.id, service.model)
        answers = Answers(service.engine, plan.requests, service.metrics)
        return await _respond(Completion(plan, answers, envelope, service.model), answers, body, request, service)

    return router


def _envelope(prefix: str, body: SamplingFields, service: Service) -> Envelope:
    """Begin an answer; raise ApiError for a model that is not there, or options without a stream."""
    if not service.model.is_named(body.model):
        raise no_model(body.model, service.model.name)
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options needs stream: true", param="stream_options")
    return Envelope(new_id(prefix), service.model.name, body.includes_usage)


async def _is_long(request: Request) -> bool:
    return len(await request.body()) > _SHORT_BYTES


async def _respond(
    answered: Chat | Completion, answers: Answers, body: SamplingFields, request: Request, service: Service
) -> Response:
    """The answer as a stream, or whole; a client that goes away before that gets none."""
    timeout_s = service.settings.request_timeout_s
    if body.stream:
        return EventStream(answered.events(), timeout_s, answers.cancel)
    try:
        whole = await unless_gone(answered.whole(), request.receive, timeout_s)
        return JSONResponse(whole.model_dump())
    except TimeoutError:
        raise too_slow(timeout_s) from None
    except ClientGoneError:
        set_outcome(request.scope, CLIENT_GONE)
        return Response(status_code=CLIENT_GONE)
    finally:
        answers.cancel()
