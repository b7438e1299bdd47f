"""Everything that can go wrong with a request, as a status and OpenAI's error object."""

import json
import math
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

from kvscape.errors import CapacityError, ConfigError, KvscapeError, QueueFullError, StoppedError
from kvscape.serve.protocol.error import ErrorAnswer, ErrorDetail

_LONGEST_MESSAGE = 400

INVALID, RATE, SERVER = "invalid_request_error", "rate_limit_error", "server_error"


class ApiError(HTTPException):
    """An answer that is an error: its message is one line; ``param`` is the field that is to blame."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        told = " ".join(message.split())[:_LONGEST_MESSAGE]
        super().__init__(status, told, headers)
        named = param and param[:_LONGEST_MESSAGE]
        self._detail = ErrorDetail(message=told, type=kind, param=named, code=code)

    @property
    def content(self) -> bytes:
        # ASCII alone: what is quoted from a request may be no valid Unicode
        return json.dumps(ErrorAnswer(error=self._detail).model_dump()).encode("ascii")

    @property
    def response(self) -> Response:
        return Response(self.content, self.status_code, self.headers, "application/json")


def of_engine(error: KvscapeError) -> ApiError:
    """What the engine refuses; what is not a request's own fault is the server's, and no detail of it is told."""
    if isinstance(error, QueueFullError):
        wait = {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
        return ApiError(429, str(error), RATE, code="rate_limit_exceeded", headers=wait)
    if isinstance(error, StoppedError):
        return stopping(error.what)
    if isinstance(error, CapacityError):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, ConfigError):
        return ApiError(400, str(error))
    return failed()


def failed() -> ApiError:
    return ApiError(500, "the server failed to answer this request", SERVER)


def stopping(what: str = "the server is stopping") -> ApiError:
    return ApiError(503, what, SERVER, code="stopping", headers={"retry-after": "5"})


def too_slow(timeout_s: float) -> ApiError:
    message = f"the answer took longer than this server's limit of {timeout_s:g} s; ask for fewer tokens"
    return ApiError(408, message, SERVER, code="request_timeout")


def no_model(name: str, known: str) -> ApiError:
    message = f"the model {name!r} does not exist; this server has {known!r}"
    return ApiError(404, message, param="model", code="model_not_found")
