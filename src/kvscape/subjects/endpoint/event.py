"""What one event of a stream says, in OpenAI's words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN_BYTES = 60
_REASON_CHARACTERS = 200
_TEXTS = ("content", "reasoning_content", "text")


class MalformedError(ValueError):
    """It is none of OpenAI's."""


@dataclass(frozen=True)
class Event:
    """The pieces of text in it, the tokens of prompt and answer that the server has counted, and what went wrong."""

    texts: tuple[str, ...] = ()
    usage: tuple[int, int] | None = None
    error: str | None = None


def read_event(payload: bytes) -> Event:
    """Read a payload; raise MalformedError for what no server like OpenAI's sends."""
    try:
        told = json.loads(payload)
        if not isinstance(told, dict):
            raise TypeError
        return Event(tuple(_texts(told)), _usage(told.get("usage")), _error(told.get("error")))
    except (ValueError, TypeError, AttributeError, RecursionError):
        shown = payload[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise MalformedError(f"no event of OpenAI's: {shown}") from None


def _texts(told: Mapping[str, Any]) -> Iterator[str]:
    for choice in told.get("choices") or ():
        piece = choice.get("delta") or choice
        if text := next(filter(None, map(piece.get, _TEXTS)), None):
            if not isinstance(text, str):
                raise TypeError
            yield text


def _usage(told: Any) -> tuple[int, int] | None:
    """None where one of the two is not counted."""
    if told is None:
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    return None if prompt is None or completion is None else (prompt, completion)


def _count(told: Any) -> int | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int) or told < 0:
        raise TypeError
    return told


def _error(told: Any) -> str | None:
    return error_message(told)[:_REASON_CHARACTERS] if told else None


def error_words(body: bytes) -> str:
    """What a server says of a failure, in OpenAI's form or in any."""
    try:
        words = error_message(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        words = body.decode("utf-8", "replace")
    return words[:_REASON_CHARACTERS]


def error_message(error: Any) -> str:
    """The message of an error object, or all of it."""
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)
