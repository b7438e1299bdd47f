"""How far a study is, on stderr."""

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kvscape.bench import WAITING


class StudyProgress(Protocol):
    """Told what begins and what ends."""

    def start(self, total: int) -> None:
        """``total`` pieces of work are left."""
        ...

    def begin(self, label: str) -> None: ...

    def wait(self) -> None:
        """What began waits for its turn."""
        ...

    def end(self, status: str, reason: str) -> None: ...


class ProgressBar:
    """A bar with the time left; what went wrong stands above it, a line each."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None)
        self._label = ""
        self._has_waited = False

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def begin(self, label: str) -> None:
        self._label = label
        self._bar.update(self._task, description=label)

    def wait(self) -> None:
        """Say it once: two studies on one machine take turns from point to point."""
        if not self._has_waited:
            self._console.print(WAITING, markup=False, highlight=False, soft_wrap=True)
        self._has_waited = True

    def end(self, status: str, reason: str) -> None:
        if status != "ok":
            self._console.print(f"{self._label}: {status}: {reason}", markup=False, highlight=False, soft_wrap=True)
        self._bar.advance(self._task)
