"""What every request passes before it is read, outermost first: plain ASGI, so that streams cost nothing more."""

import re
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvscape.serve.errors import ApiError
from kvscape.serve.metrics import ServeMetrics
from kvscape.serve.outcome import outcome
from kvscape.serve.security import has_key, host_name

OTHER_PATH = "other"


class CountRequests:
    """Counts each request by its path, of those that exist, and its status."""

    def __init__(self, app: ASGIApp, metrics: ServeMetrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        sent = 500

        async def watch(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                sent = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            path = scope["path"] if scope["path"] in self._paths else OTHER_PATH
            self._metrics.count_request(path, outcome(scope, sent))


class CloseWhenStopping:
    """Keeps no connection open for further requests while the server stops."""

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self._app, self._is_stopping = app, is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, close if self._is_stopping() else send)


class LimitHeaders:
    """Refuses headers of more than ``most_bytes``."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = sum(len(name) + len(value) for name, value in scope["headers"])
            size += len(scope["raw_path"]) + len(scope["query_string"])
            if size > self._most_bytes:
                error = ApiError(
                    431, f"the headers have more than {self._most_bytes:,} bytes", code="headers_too_large"
                )
                return await error.response(scope, receive, send)
        return await self._app(scope, receive, send)


class CheckHost:
    """Refuses names that are not the server's: a page of another site may call this machine by a name of its own."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app, self._allowed = app, frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and host_name(scope["headers"]) not in self._allowed:
            error = ApiError(
                403, "this server does not answer under this name; start it with --allowed-host", code="unknown_host"
            )
            return await error.response(scope, receive, send)
        return await self._app(scope, receive, send)


class CheckKey:
    """Answers only those who know the key; ``open_paths`` are for everybody."""

    def __init__(self, app: ASGIApp, key: str, open_paths: Collection[str]) -> None:
        self._app, self._key, self._open_paths = app, key.encode(), frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"] not in self._open_paths
        if closed and not has_key(scope["headers"], self._key):
            message = "no API key, or a wrong one; send it as 'Authorization: Bearer KEY'"
            headers = {"www-authenticate": "Bearer"}
            error = ApiError(401, message, code="invalid_api_key", headers=headers)
            return await error.response(scope, receive, send)
        return await self._app(scope, receive, send)


class LimitBody:
    """Refuses a body of more than ``most_bytes``: at once where its length is said, else as soon as it has come."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if _content_length(scope) > self._most_bytes:
            return await self._too_large().response(scope, receive, send)
        return await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body has more than {self._most_bytes:,} bytes", code="body_too_large")


def _content_length(scope: Scope) -> int:
    said = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(said[0]) if said and re.fullmatch(rb"[0-9]{1,18}", said[0]) else 0
