"""A conversation with the fake model, for a pseudo-terminal."""

import signal
from collections.abc import Iterator

from fake_talker import FakeTalker

from kvscape.chat import ChatSession, Terminal


def answer(question: str) -> Iterator[str]:
    if question == "stop me":
        yield "begun"
        signal.raise_signal(signal.SIGINT)
    yield f"You said **{question!r}**."


session = ChatSession(lambda messages: len(messages), max_prompt_tokens=100)
Terminal(session, FakeTalker(answer)).run()
print("turns:", len(session.turns))
