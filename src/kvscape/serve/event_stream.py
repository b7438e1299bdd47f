"""Server-sent events, as OpenAI streams them."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvscape.serve.abandoned import ClientGoneError, unless_gone
from kvscape.serve.errors import ApiError, failed, too_slow
from kvscape.serve.outcome import CLIENT_GONE, set_outcome

_LOG = logging.getLogger(__name__)
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
)
_LAST_WORD_S = 1.0
_DONE = b"data: [DONE]\n\n"

Events = AsyncGenerator[Mapping[str, Any], None]
"""The objects of a stream; closing it gives up what they come from."""


class EventStream(Response):
    """Sends each object as it comes, and ``[DONE]``; an error is the last object, and nothing follows it.

    A client that goes away, or an answer that takes longer than ``timeout_s``, ends it. ``on_end`` is called in any
    case.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Events, timeout_s: float, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._events, self._timeout_s, self._on_end = events, timeout_s, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": _HEADERS})
            await unless_gone(self._send_events(send), receive, self._timeout_s)
        except ClientGoneError:
            set_outcome(scope, CLIENT_GONE)
        except TimeoutError:
            await self._end(scope, send, too_slow(self._timeout_s))
        except ApiError as error:
            await self._end(scope, send, error)
        except Exception:
            _LOG.exception("a stream failed")
            await self._end(scope, send, failed())
        finally:
            self._on_end()

    async def _send_events(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": data(event), "more_body": True})
        await send({"type": "http.response.body", "body": _DONE})

    async def _end(self, scope: Scope, send: Send, error: ApiError) -> None:
        """Say what went wrong, unless the client is too slow to hear it: then its connection is closed."""
        set_outcome(scope, error.status_code)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await send({"type": "http.response.body", "body": b"data: " + error.content + b"\n\n"})


def data(event: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
