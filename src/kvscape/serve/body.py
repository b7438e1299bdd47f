"""Reads the body of a request as JSON, strictly."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from kvscape.serve.errors import ApiError

_SLOWEST_BODY_S = 60.0


class JsonRequest(Request):
    """A request whose JSON is UTF-8 without NaN, lone surrogates or bottomless nesting; ApiError otherwise."""

    async def json(self) -> Any:
        try:
            async with asyncio.timeout(_SLOWEST_BODY_S):
                content = await self.body()
        except TimeoutError:
            raise ApiError(408, f"the body did not come within {_SLOWEST_BODY_S:g} s") from None
        try:
            return from_json(content, allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(400, f"the body is no valid JSON: {error}") from None


class JsonRoute(APIRoute):
    """A route whose requests are ``JsonRequest``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if not _is_json(request.headers.get("content-type", "")):
                raise ApiError(415, "the body must be JSON: send 'Content-Type: application/json'")
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def _is_json(content_type: str) -> bool:
    """A page of another site may send other types without asking first."""
    return content_type.partition(";")[0].strip().lower() == "application/json"
