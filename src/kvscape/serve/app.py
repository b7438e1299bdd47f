"""The application: its paths, what stands before them, and what an error becomes."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from kvscape.serve.errors import ApiError, failed
from kvscape.serve.middleware import CheckHost, CheckKey, CloseWhenStopping, CountRequests, LimitBody, LimitHeaders
from kvscape.serve.page import PAGE_PATHS, page_routes
from kvscape.serve.routes_openai import openai_routes
from kvscape.serve.routes_server import server_routes
from kvscape.serve.security import allowed_hosts
from kvscape.serve.service import Service
from kvscape.serve.validation import invalid
from kvscape.version import __version__

_OPEN_PATHS = ("/health", *PAGE_PATHS)
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics", *_OPEN_PATHS)


def make_app(service: Service) -> FastAPI:
    """Make the application of one service."""
    app = FastAPI(
        title="kvscape",
        version=__version__,
        docs_url=None,  # their pages would load scripts from elsewhere
        redoc_url=None,
        middleware=_middleware(service),
        exception_handlers={RequestValidationError: _invalid, HTTPException: _refused, Exception: _failed},
    )
    app.include_router(openai_routes(service))
    app.include_router(server_routes(service))
    app.include_router(page_routes())
    return app


def _middleware(service: Service) -> list[Middleware]:
    settings = service.settings
    layers = [
        Middleware(CountRequests, service.metrics, _PATHS),
        Middleware(CloseWhenStopping, lambda: service.stopping),
        Middleware(LimitHeaders, settings.max_header_bytes),
    ]
    if (hosts := allowed_hosts(settings)) is not None:
        layers.append(Middleware(CheckHost, hosts))
    if settings.cors_origins:
        origins, methods = settings.cors_origins, ("GET", "POST")
        layers.append(Middleware(CORSMiddleware, origins, allow_methods=methods, allow_headers=("*",)))
    if settings.api_key is not None:
        layers.append(Middleware(CheckKey, settings.api_key, _OPEN_PATHS))
    return [*layers, Middleware(LimitBody, settings.max_body_bytes)]


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors(), error.body).response


async def _refused(request: Request, error: Exception) -> Response:
    """An error of ours, or of the framework: a path or a method that is not there."""
    if isinstance(error, ApiError):
        return error.response
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    return ApiError(error.status_code, message, headers=error.headers).response


async def _failed(request: Request, error: Exception) -> Response:
    return failed().response
