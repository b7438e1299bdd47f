"""Markdown that is rendered as it comes: what a terminal shows in the end, and on the way."""

import io
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tiny_terminal import TinyTerminal

from kvscape.chat.markdown_screen import MarkdownScreen, rendered

WIDTH, HEIGHT = 40, 10
ANSWER = """\
# A title

Some **bold** words that are longer than one line of this small terminal,
on two lines.

1. one
2. two

   - inner

3. three

```python
def f():

    return "#"
```
| a | b |
|---|---|
| 1 | 2 |

> said
The end.
"""


class Clock:
    """Each look is a second later, so that every piece is drawn."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Output(io.StringIO):
    """What the console writes, also into a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal = TinyTerminal(WIDTH, HEIGHT)

    def write(self, text: str) -> int:
        self.terminal.write(text)
        return super().write(text)


def console(file: io.StringIO) -> Console:
    return Console(file=file, force_terminal=True, width=WIDTH, height=HEIGHT, color_system=None, legacy_windows=False)


def shown(*answers: list[str]) -> Output:
    output = Output()
    screen = MarkdownScreen(console(output), Clock())
    for pieces in answers:
        for piece in pieces:
            screen.add(piece)
        screen.end()
    return output


def whole(text: str) -> str:
    """What rich shows of a text that is complete."""
    file = io.StringIO()
    console(file).print(rendered(text))
    lines = "\n".join(line.rstrip() for line in file.getvalue().split("\n")).strip("\n")
    return re.sub("\n{3,}", "\n\n", lines)  # rich puts two empty lines between some blocks


def test_the_end_is_as_if_the_whole_had_been_rendered_at_once() -> None:
    assert shown(list(ANSWER)).terminal.text == whole(ANSWER)
    assert "A title" in whole(ANSWER) and "**" not in whole(ANSWER)


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, len(ANSWER)), max_size=20))
def test_however_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[start:stop] for start, stop in pairwise(places)]
    assert shown(pieces).terminal.text == whole(ANSWER)


def test_a_line_is_seen_while_it_grows() -> None:
    output = Output()
    screen = MarkdownScreen(console(output), Clock())
    screen.add("Some **bo")
    assert output.terminal.text == "Some **bo"
    screen.add("ld** word")
    assert output.terminal.text == "Some bold word"


@pytest.mark.parametrize("text", ["```\n" + "x\n" * 50 + "```\n", "- x\n" * 50, "word " * 200])
def test_what_is_longer_than_the_terminal_leaves_no_trace_of_its_growth(text: str) -> None:
    output = shown(list(text))
    assert output.terminal.text == whole(text)


def test_finished_blocks_are_written_once() -> None:
    paragraphs = "".join(f"Paragraph {number}.\n\n" for number in range(100))
    written = shown([f"{word} " if word else word for word in paragraphs.split(" ")]).getvalue()
    assert written.count("Paragraph 0.") <= 3
    assert len(written) < 12 * len(paragraphs)


def test_a_fast_answer_is_not_drawn_for_every_piece() -> None:
    output = Output()
    screen = MarkdownScreen(console(output), lambda: 1.0)
    for _ in range(500):
        screen.add("word ")
    screen.end()
    assert len(output.getvalue()) < 1.2 * len("word " * 500)


def test_answers_stand_apart() -> None:
    assert shown(["One."], ["Two."]).terminal.text == "One.\nTwo."
    assert shown([], ["Two."]).terminal.text == "\nTwo."


def test_a_line_break_stays_one() -> None:
    assert shown(["Roses are red,\n", "violets are blue."]).terminal.text == "Roses are red,\nviolets are blue."


def test_a_model_cannot_command_the_terminal() -> None:
    assert "\x1b]0;" not in shown(["a\x1b]0;title\x07b\x9b31m\rc"]).getvalue()


def test_the_cursor_is_shown_again() -> None:
    written = shown(["a", "b"]).getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
