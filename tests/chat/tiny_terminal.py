"""A terminal of a few rows: what stays on it, and in its scrollback, after all that was written."""

import re

_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class TinyTerminal:
    """Knows the sequences that rich uses; the cursor cannot go up to what has scrolled away."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [""]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        for part in _PARTS.finditer(text):
            number, sequence, back, down, shown = part.groups()
            if shown is not None:
                self._show(shown)
            elif back:
                self._column = 0
            elif down:
                self._move_down()
            elif sequence == "A":
                self._row = max(self._row - int(number or 1), len(self.rows) - self.height, 0)
            elif sequence == "K":
                self.rows[self._row] = ""

    def _show(self, text: str) -> None:
        assert self._column + len(text) <= self.width, "a line is longer than the terminal"
        row = self.rows[self._row].ljust(self._column)
        self.rows[self._row] = row[: self._column] + text + row[self._column + len(text) :]
        self._column += len(text)

    def _move_down(self) -> None:
        self._row, self._column = self._row + 1, 0
        if self._row == len(self.rows):
            self.rows.append("")

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip()
