"""Typing at a terminal: keys, several lines, completion and history, through a pseudo-terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 60.0
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")


class Typist:
    """Types into the program and reads its terminal."""

    def __init__(self, handle: int, process: "subprocess.Popen[bytes]") -> None:
        self._handle, self.process = handle, process
        self._seen = b""

    def type(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def read_until(self, text: str) -> str:
        """Return what the terminal shows up to ``text``, without colours and movements."""
        end = time.monotonic() + _PATIENCE_S
        while text not in (shown := _SEQUENCE.sub("", self._seen.decode(errors="replace"))):
            if time.monotonic() > end or not self._read():
                raise AssertionError(f"not shown: {text!r}\n{shown}")
        self._seen = shown[shown.index(text) + len(text) :].encode()
        return shown[: shown.index(text)]

    def _read(self) -> bool:
        if select.select([self._handle], [], [], 0.1)[0]:
            try:
                self._seen += os.read(self._handle, 65536)
            except OSError:  # the program has ended
                return False
        return True


@contextmanager
def terminal(home: Path) -> Iterator[Typist]:
    master, slave = pty.openpty()
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]),
        "KVSCAPE_HOME": str(home),
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "24",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(here / "talk_in_terminal.py")],
        stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        yield Typist(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


ENTER, ALT_ENTER, TAB, UP, CTRL_C, CTRL_D = "\r", "\x1b\r", "\t", "\x1b[A", "\x03", "\x04"


def test_a_talk_by_keys(tmp_path: Path) -> None:
    with terminal(tmp_path) as typist:
        typist.read_until(">>>")
        typist.type("hi" + ENTER)
        typist.read_until("You said 'hi'.")
        typist.read_until(">>>")
        typist.type("two" + ALT_ENTER + "lines \\" + ENTER + "three" + ENTER)
        typist.read_until(r"You said 'two\nlines \nthree'.")
        typist.read_until(">>>")
        typist.type("/temp" + TAB)
        typist.read_until("/temperature")
        typist.type(" 0.5" + ENTER)
        typist.read_until(">>>")
        typist.type("/temperature" + ENTER)
        typist.read_until("0.5")
        typist.read_until(">>>")
        typist.type("given up")
        typist.read_until("given up")
        typist.type(CTRL_C)
        typist.read_until(">>>")
        typist.type("stop me" + ENTER)
        typist.read_until("begun")
        typist.read_until(">>>")
        typist.type("/nonsense" + ENTER)
        typist.read_until("error: no command '/nonsense'")
        typist.read_until(">>>")
        typist.type(UP + UP + ENTER)
        typist.read_until("begun")
        typist.read_until(">>>")
        typist.type(CTRL_D)
        typist.read_until("turns: 4")
    file = tmp_path / "chat_history.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert r'"two\nlines \nthree"' in file.read_text()
    assert "given up" not in file.read_text()
    with terminal(tmp_path) as typist:
        typist.read_until(">>>")
        typist.type(UP * 2 + CTRL_D + ENTER)  # Ctrl-D ends an empty message only
        typist.read_until("error: no command '/nonsense'")


def test_pasted_lines_are_one_message(tmp_path: Path) -> None:
    with terminal(tmp_path) as typist:
        typist.read_until(">>>")
        typist.type(f"\x1b[200~a\nb\x1b[201~{ENTER}")
        typist.read_until(r"You said 'a\nb'")
