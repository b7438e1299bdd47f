"""The loop of a conversation: read a line, show the answer as it comes."""

import io
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from types import MappingProxyType
from typing import Protocol

from kvscape.chat.interrupt import caught_interrupt
from kvscape.chat.session import ChatSession
from kvscape.errors import ConfigError, KvscapeError, near_match
from kvscape.tokenizer import Message

_PROMPT = ">>> "
_HELP = """\
/help   show this
/reset  forget the conversation
/stats  show the last answer's speed and the memory in use
/exit   end, as Ctrl-D does
Ctrl-C stops an answer. A message that begins with / needs a space before it."""


class Talker(Protocol):
    """Who answers."""

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the answer in pieces; a generator is closed when no more is wanted."""
        ...

    def stats(self) -> str:
        """Describe the last answer's speed and the memory in use."""
        ...


class Terminal:
    """Reads stdin, a terminal or a pipe, and writes answers to stdout, errors to stderr."""

    def __init__(self, session: ChatSession, talker: Talker) -> None:
        self._session, self._talker = session, talker
        self._commands: Mapping[str, Callable[[], None]] = MappingProxyType(
            {
                "/help": lambda: print(_HELP),
                "/reset": session.reset,
                "/stats": lambda: print(talker.stats()),
            }
        )

    def run(self) -> None:
        """Talk until /exit, Ctrl-D or the end of the pipe. An expected error is shown, and the talk goes on."""
        for line in _lines():
            if line.rstrip() == "/exit":
                return
            try:
                self._take(line)
            except KvscapeError as error:
                print(f"error: {error}", file=sys.stderr, flush=True)

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            self._command(line.rstrip())
        elif question := line.strip():
            self._answer(question)

    def _command(self, name: str) -> None:
        if name not in self._commands:
            raise ConfigError(f"no command {name!r}", "", near_match(name, [*self._commands, "/exit"]))
        self._commands[name]()

    def _answer(self, question: str) -> None:
        messages = self._session.messages(question)
        pieces: list[str] = []
        try:
            self._show(messages, pieces)
        finally:
            print(flush=True)
        self._session.add(question, "".join(pieces))

    def _show(self, messages: Sequence[Message], pieces: list[str]) -> None:
        with caught_interrupt() as interrupt, suppress(KeyboardInterrupt):
            stream = self._talker.stream(messages)
            with closing(stream) if isinstance(stream, Generator) else nullcontext():
                for piece in stream:
                    pieces.append(piece)
                    print(piece, end="", flush=True)
                    if interrupt.requested:
                        return


def _lines() -> Iterator[str]:
    """Yield lines until the end of stdin; Ctrl-C gives up a line."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  imported, it gives input() history and editing
    while True:
        try:
            line = input(_PROMPT if interactive else "")
        except KeyboardInterrupt:
            print()
        except EOFError:
            if interactive:
                print()
            return
        else:
            yield line
