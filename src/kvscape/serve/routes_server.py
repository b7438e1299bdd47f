"""What the server says of itself: ``/v1/models``, ``/health`` and ``/metrics``."""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from kvscape.serve.errors import no_model, stopping
from kvscape.serve.metrics import CONTENT_TYPE
from kvscape.serve.protocol.models import Model, ModelList
from kvscape.serve.protocol.strict import Answered
from kvscape.serve.routes_openai import ERRORS
from kvscape.serve.service import Service


class Health(Answered):
    """That the server takes requests."""

    status: Literal["ok"] = "ok"


def server_routes(service: Service) -> APIRouter:
    """The paths of one service."""
    router = APIRouter(responses=ERRORS)

    @router.get("/v1/models")
    async def models() -> ModelList:
        """List the model."""
        return ModelList(data=[_model(service)])

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Model:
        """Describe the model."""
        if not service.model.is_named(name):
            raise no_model(name, service.model.name)
        return _model(service)

    @router.get("/health")
    async def health() -> Health:
        """Say whether requests are taken."""
        if service.engine.has_failed:
            raise stopping("the engine failed; start the server again")
        if service.stopping:
            raise stopping()
        return Health()

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Tell Prometheus of requests, latencies and the engine."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return router


def _model(service: Service) -> Model:
    served = service.model
    return Model(id=served.name, created=served.created_s, max_model_len=served.context_tokens)
