"""How far a download is."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

_LINE_INTERVAL_S = 5.0


class Progress(Protocol):
    """Told several times how many bytes of ``what`` are there; the last time it is all of them.

    The total is None where it is not known; work that has no size ends with 0 of 0. Calls may come from another thread.
    """

    def __call__(self, what: str, done_bytes: int, total_bytes: int | None) -> None: ...


def silent(what: str, done_bytes: int, total_bytes: int | None) -> None:
    """Show nothing."""


class DownloadBar:
    """A bar with speed and time left on stderr; where that is no terminal, a line now and then."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        show = _Bar(self._console) if self._console.is_terminal else _Lines(self._console, clock)
        self._show: _Bar | _Lines = show

    def __enter__(self) -> "DownloadBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show.close()

    def __call__(self, what: str, done_bytes: int, total_bytes: int | None) -> None:
        self._show.update(what, done_bytes, total_bytes)


class _Bar:
    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[size]}", markup=False),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=console)

    def update(self, what: str, done_bytes: int, total_bytes: int | None) -> None:
        # Started by the first download: a warm cache shows no empty bar.
        self._bar.start()
        tasks = {task.description: task.id for task in self._bar.tasks}
        task = tasks[what] if what in tasks else self._bar.add_task(what, total=None, size="")
        self._bar.update(task, completed=done_bytes, total=total_bytes, size=_size(done_bytes, total_bytes))

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._shown_at: dict[str, float] = {}
        self._finished: set[str] = set()

    def update(self, what: str, done_bytes: int, total_bytes: int | None) -> None:
        finished = done_bytes == total_bytes
        waited = self._clock() - self._shown_at.get(what, float("-inf"))
        if what in self._finished or not (finished or waited >= _LINE_INTERVAL_S):
            return
        self._shown_at[what] = self._clock()
        if finished:
            self._finished.add(what)
        percent = f" ({done_bytes / total_bytes:.0%})" if total_bytes else ""
        line = f"{what}: {_size(done_bytes, total_bytes) or ('done' if finished else 'begins')}{percent}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


def _size(done_bytes: int, total_bytes: int | None) -> str:
    """``12 MB of 90 MB``; nothing for work that has no size."""
    if not (done_bytes or total_bytes):
        return ""
    return decimal(done_bytes) + (f" of {decimal(total_bytes)}" if total_bytes else "")
