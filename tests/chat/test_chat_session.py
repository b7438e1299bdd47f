"""The history of a conversation and its limit."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.chat import ChatSession
from kvscape.errors import CapacityError
from kvscape.tokenizer import Message


def count_words(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def contents(messages: Sequence[Message]) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in messages]


def test_turns_come_before_the_question_and_the_system_prompt_before_all() -> None:
    session = ChatSession(count_words, 100, system="be brief")
    session.add("one?", "1")
    session.add("two?", "2")
    assert contents(session.messages("three?")) == [
        "system: be brief",
        "user: one?",
        "assistant: 1",
        "user: two?",
        "assistant: 2",
        "user: three?",
    ]


def test_without_a_system_prompt_there_is_none() -> None:
    assert contents(ChatSession(count_words, 100).messages("hi")) == ["user: hi"]


def test_the_oldest_turns_are_forgotten_when_they_no_longer_fit() -> None:
    session = ChatSession(count_words, 6, system="be brief")
    session.add("one?", "1")
    session.add("two?", "2")
    assert contents(session.messages("three and")) == [
        "system: be brief",
        "user: two?",
        "assistant: 2",
        "user: three and",
    ]
    assert [turn.question for turn in session.turns] == ["two?"]


def test_a_history_that_just_fits_is_kept() -> None:
    session = ChatSession(count_words, 3)
    session.add("one?", "1")
    assert len(session.messages("two?")) == 3


def test_a_question_that_does_not_fit_alone_is_refused_and_nothing_is_forgotten() -> None:
    session = ChatSession(count_words, 4, system="be brief")
    session.add("one?", "1")
    with pytest.raises(CapacityError, match="makes a prompt of 5 tokens, 4 are free for one; shorten it"):
        session.messages("a b c")
    assert len(session.turns) == 1


def test_reset_forgets_the_turns_and_keeps_the_system_prompt() -> None:
    session = ChatSession(count_words, 100, system="be brief")
    session.add("one?", "1")
    session.reset()
    assert contents(session.messages("two?")) == ["system: be brief", "user: two?"]


@given(answers=st.lists(st.integers(0, 9), max_size=8), limit=st.integers(1, 30))
def test_as_many_turns_are_kept_as_fit(answers: list[int], limit: int) -> None:
    session = ChatSession(count_words, limit)
    for length in answers:
        session.add("q", " ".join(["a"] * length))
    messages = session.messages("q")
    assert count_words(messages) <= limit
    kept = len(session.turns)
    if kept < len(answers):
        assert count_words(messages) + 1 + answers[-kept - 1] > limit
