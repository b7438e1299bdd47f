"""What is said to the model: typed at a terminal, or a line of a pipe each."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence


def piped_lines() -> Iterator[str]:
    """Yield the lines of stdin; bytes that are not UTF-8 become U+FFFD."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            yield input()
        except EOFError:
            return


def open_lines(commands: Sequence[str]) -> Iterable[str]:
    """Return the messages and commands to come; ``commands`` are those that a terminal completes."""
    if not sys.stdin.isatty():
        return piped_lines()
    from kvscape.chat.history import HistoryFile
    from kvscape.chat.prompt import typed_messages  # takes a moment, and a pipe needs none of it
    from kvscape.hub.cache import cache_dir

    return typed_messages(commands, HistoryFile(cache_dir() / "chat_history.jsonl"))
