"""The loop of a conversation: read a message, show the answer as it comes."""

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, nullcontext, suppress

from kvscape.chat.commands import EXIT, Commands
from kvscape.chat.interrupt import caught_interrupt
from kvscape.chat.lines import open_lines
from kvscape.chat.screen import Screen, open_screen
from kvscape.chat.session import ChatSession
from kvscape.chat.talker import Talker
from kvscape.errors import KvscapeError
from kvscape.tokenizer import Message


class Terminal:
    """Reads stdin, a terminal or a pipe, and writes answers to stdout, errors to stderr.

    ``screen`` is where answers are shown, by default the best one that stdout has.
    """

    def __init__(self, session: ChatSession, talker: Talker, screen: Screen | None = None) -> None:
        self._session, self._talker = session, talker
        self._commands = Commands(session, talker)
        self._screen = screen or open_screen()

    def run(self, lines: Iterable[str] | None = None) -> None:
        """Talk until /exit, Ctrl-D or the end of the pipe. An expected error is shown, and the talk goes on."""
        for line in open_lines(self._commands.names) if lines is None else lines:
            if line.rstrip() == EXIT:
                return
            try:
                self._take(line)
            except KvscapeError as error:
                print(f"error: {error}", file=sys.stderr, flush=True)

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            if said := self._commands.run(line):
                print(said, flush=True)
        elif question := line.strip():
            self._answer(question)

    def _answer(self, question: str) -> None:
        messages = self._session.messages(question)
        pieces: list[str] = []
        try:
            self._show(messages, pieces)
        finally:
            self._screen.end()
        self._session.add(question, "".join(pieces))

    def _show(self, messages: Sequence[Message], pieces: list[str]) -> None:
        with caught_interrupt() as interrupt, suppress(KeyboardInterrupt):
            stream = self._talker.stream(messages)
            with closing(stream) if isinstance(stream, Generator) else nullcontext():
                for piece in stream:
                    pieces.append(piece)
                    self._screen.add(piece)
                    if interrupt.requested:
                        return
