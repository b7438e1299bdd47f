"""Events of a stream, those too that no server like OpenAI's sends."""

import json
from typing import Any

import pytest

from kvscape.subjects.endpoint.answer import Answer
from kvscape.subjects.endpoint.event import Event, MalformedError, error_words, read_event


@pytest.mark.parametrize(
    ("told", "event"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, Event()),
        ({"choices": [{"delta": {"content": "a"}}, {"text": "b"}]}, Event(("a", "b"))),
        ({"choices": [{"delta": {"content": None, "reasoning_content": "so"}}]}, Event(("so",))),
        ({"choices": None}, Event()),
        ({"choices": [{"delta": None, "finish_reason": "stop"}], "usage": None, "error": None}, Event()),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}, Event(usage=(3, 0))),
        ({"choices": [], "usage": {"total_tokens": 3}}, Event()),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": None}}, Event()),
        ({"error": {"message": "too long", "type": "x"}}, Event(error="too long")),
        ({"error": "too long"}, Event(error="too long")),
    ],
)
def test_an_event_has_texts_counts_or_an_error(told: Any, event: Event) -> None:
    assert read_event(json.dumps(told).encode()) == event


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"\xff\xfe{{", b"[" * 10**5, b"null", b"3", b'"x"', b"[1]", b'{"choices": "abc"}',
        b'{"choices": [1]}', b'{"choices": 5}', b'{"choices": [{"delta": "abc"}]}',
        b'{"choices": [{"delta": {"content": 5}}]}',
        b'{"choices": [{"delta": {"content": [{"text": "x"}]}}]}', b'{"usage": "many"}', b'{"usage": [1, 2]}',
        b'{"usage": {"prompt_tokens": -1, "completion_tokens": 2}}',
        b'{"usage": {"prompt_tokens": "1", "completion_tokens": 2}}',
        b'{"usage": {"prompt_tokens": 1.5, "completion_tokens": 2}}',
        b'{"usage": {"prompt_tokens": true, "completion_tokens": 2}}',
    ],
)  # fmt: skip
def test_what_no_such_server_sends_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError, match="no event of OpenAI's"):
        read_event(payload)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no key"}}', "no key"),
        (b'{"error": "no key"}', "no key"),
        (b'{"detail": "Not Found"}', '{"detail": "Not Found"}'),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
        (b"x" * 999, "x" * 200),
    ],
)
def test_a_failure_is_said_in_the_servers_words(body: bytes, words: str) -> None:
    assert error_words(body) == words


def test_an_empty_answer_has_no_token() -> None:
    assert Answer(0.0, 4, pieces_s=[1.0], status="ok").output_tokens == 0
    assert Answer(0.0, 4, pieces_s=[1.0], characters=2, status="ok").output_tokens == 1
