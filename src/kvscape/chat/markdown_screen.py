"""Markdown that is rendered while it is written.

Only the last block of a text can still change: a paragraph may go on, a list get an item. It is drawn again as it
grows, in a region at the bottom of the terminal; blocks before it are printed once and scroll away.
"""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from kvscape.chat.screen import text_only

_FRAME_S = 1 / 15
_BLOCKS = MarkdownIt().enable("table")


class MarkdownScreen:
    """Shows answers on a terminal; ``clock`` says when the growing block is drawn again."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._growing = ""
        self._printed = False
        self._drawn_s = 0.0
        self._live: Live | None = None

    def add(self, text: str) -> None:
        """Show the next piece of the answer."""
        self._growing += text_only(text)
        if "\n" in text:
            self._print_finished()
        if self._clock() - self._drawn_s >= _FRAME_S:
            self._draw()

    def end(self) -> None:
        """Print what is left; the next answer begins anew."""
        self._growing += "\n"
        self._print_finished()
        if self._live is not None:
            self._live.update("")
            self._live.stop()
        if self._growing.strip() or not self._printed:
            self._print(self._growing)
        self._live, self._growing, self._printed = None, "", False

    def _print_finished(self) -> None:
        """Print the blocks that no later line can change."""
        lines = self._growing.split("\n")
        starts = list(_block_starts("\n".join(lines[:-1])))
        if len(starts) < 2:
            return
        self._growing = "\n".join(lines[starts[-1] :])
        if self._live is not None:
            self._live.update("")
        for start, stop in pairwise(starts):
            self._print("\n".join(lines[start:stop]))

    def _print(self, block: str) -> None:
        self._console.print(_Block(block, space=self._printed))
        self._printed = True

    def _draw(self) -> None:
        self._drawn_s = self._clock()
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="visible",
            )
            self._live.start()
        height = max(1, self._console.size.height - 1)  # a region that scrolled away could not be drawn again
        self._live.update(_Block(self._growing, self._printed, height), refresh=True)


def rendered(text: str) -> Markdown:
    """Return what rich shows of a markdown text; a line break stays one, as a model means it."""
    markdown = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    for token in markdown.parsed:
        for inner in token.children or ():
            inner.type = "hardbreak" if inner.type == "softbreak" else inner.type
    return markdown


def _block_starts(text: str) -> Iterator[int]:
    """Yield the line on which each block of the outermost level begins."""
    for token in _BLOCKS.parse(text):
        if token.level == 0 and token.nesting >= 0 and token.map:
            yield token.map[0]


class _Block:
    """One block of a text, or its last lines; ``space`` keeps it apart from the one before."""

    def __init__(self, text: str, space: bool, most_lines: int | None = None) -> None:
        self._text, self._space, self._most_lines = text, space, most_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_trimmed(line) for line in console.render_lines(rendered(self._text), options, pad=False)]
        shown = [number for number, line in enumerate(lines) if line]
        kept = lines[shown[0] : shown[-1] + 1] if shown else [[]]
        all_lines = [[], *kept] if self._space else kept
        for number, line in enumerate(all_lines[-self._most_lines :] if self._most_lines else all_lines):
            if number:
                yield Segment.line()
            yield from line
        if self._most_lines is None:  # a region that is drawn again must not begin a line
            yield Segment.line()


def _trimmed(line: list[Segment]) -> list[Segment]:
    """Without the spaces that fill a line up, unless they are coloured."""
    kept = list(line)
    while kept and not kept[-1].text.strip() and not (kept[-1].style and kept[-1].style.bgcolor):
        kept.pop()
    if kept and not (kept[-1].style and kept[-1].style.bgcolor):
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept
