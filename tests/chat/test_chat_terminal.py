"""The loop of a conversation, with a fake model."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_talker import FakeTalker

from kvscape.chat import ChatSession, Terminal
from kvscape.errors import CapacityError


def talk(monkeypatch: pytest.MonkeyPatch, talker: FakeTalker, *lines: str) -> ChatSession:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    session = ChatSession(lambda messages: len(messages), max_prompt_tokens=100)
    Terminal(session, talker).run()
    return session


Captured = pytest.CaptureFixture[str]


def test_answers_are_shown_and_remembered(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "hi", "and now?")
    assert capsys.readouterr().out == "you said hi\nyou said and now?\n"
    assert [message["content"] for message in talker.prompts[1]] == ["hi", "you said hi", "and now?"]


def test_empty_lines_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "", "  ", "hi")
    assert len(talker.prompts) == 1


def test_reset_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "hi", "/reset", "and now?")
    assert [message["content"] for message in talker.prompts[1]] == ["and now?"]


def test_stats_and_help_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "/stats", "/help")
    out = capsys.readouterr().out
    assert out.startswith("42 tokens/s\n")
    assert all(command in out for command in ("/help", "/reset", "/stats", "/exit", "Ctrl-C"))
    assert talker.prompts == []


def test_exit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "hi", "/exit", "not heard")
    assert len(talker.prompts) == 1


def test_an_unknown_command_names_the_near_one(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    talker = FakeTalker()
    talk(monkeypatch, talker, "/rest", " /home is a folder")
    captured = capsys.readouterr()
    assert captured.err == "error: no command '/rest'; did you mean '/reset'?\n"
    assert captured.out == "you said /home is a folder\n"


def test_an_expected_error_is_one_line_and_the_talk_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def answer(question: str) -> Iterator[str]:
        yield "begin"
        if question == "long":
            raise CapacityError("the context is full", "", "use /reset")

    talker = FakeTalker(answer)
    session = talk(monkeypatch, talker, "long", "short")
    captured = capsys.readouterr()
    assert captured.err == "error: the context is full; use /reset\n"
    assert captured.out == "begin\nbegin\n"
    assert [turn.question for turn in session.turns] == ["short"]


def test_ctrl_c_stops_the_answer_and_not_the_program(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def answer(question: str) -> Iterator[str]:
        yield "one "
        if question == "long":
            signal.raise_signal(signal.SIGINT)
        yield "two "
        yield "three"

    before = signal.getsignal(signal.SIGINT)
    talker = FakeTalker(answer)
    session = talk(monkeypatch, talker, "long", "short")
    assert capsys.readouterr().out == "one two \none two three\n"
    assert talker.stopped
    assert [turn.answer for turn in session.turns] == ["one two ", "one two three"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_a_model_that_gives_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def answer(question: str) -> Iterator[str]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        yield "never"

    session = talk(monkeypatch, FakeTalker(answer), "hi")
    assert capsys.readouterr().out == "\n"
    assert [turn.answer for turn in session.turns] == [""]


def test_a_pipe_works_whatever_bytes_it_holds() -> None:
    program = (
        "import sys\n"
        "from fake_talker import FakeTalker\n"
        "from kvscape.chat import ChatSession, Terminal\n"
        "Terminal(ChatSession(len, 100), FakeTalker()).run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"h\xc3\xa9\r\n\xff", capture_output=True, env=environment, check=True
    )
    assert done.stdout.decode() == "you said hé\nyou said \ufffd\n"
    assert done.stderr == b""
