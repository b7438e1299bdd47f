"""Where an answer is shown as it comes."""

import sys
from typing import Protocol

# What moves a terminal's cursor, changes its title or colours: a model's text must not.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


class Screen(Protocol):
    """Shows one answer after another."""

    def add(self, text: str) -> None:
        """Show the next piece of the answer."""
        ...

    def end(self) -> None:
        """End the answer: what comes next begins on a line of its own."""
        ...


class PlainScreen:
    """Text as it is, on stdout; on a terminal without characters that would control it."""

    def add(self, text: str) -> None:
        print(text_only(text) if sys.stdout.isatty() else text, end="", flush=True)

    def end(self) -> None:
        print(flush=True)


def text_only(text: str) -> str:
    """Return ``text`` without control characters; tabs and line breaks stay."""
    return text.translate(_CONTROLS)


def open_screen(plain: bool = False) -> Screen:
    """Return the best screen that stdout has."""
    if plain or not sys.stdout.isatty():
        return PlainScreen()
    from rich.console import Console

    from kvscape.chat.markdown_screen import MarkdownScreen  # takes a moment, and a pipe needs none of it

    console = Console()
    return PlainScreen() if console.is_dumb_terminal else MarkdownScreen(console)
