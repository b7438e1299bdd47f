"""How far a study is, on stderr, while it runs; and each of its events in a file."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kvscape.bench import WAITING
from kvscape.errors import ResultsError
from kvscape.results import Record
from kvscape.study.progress import LOST

_ROWS = 6
_SHOWN = {
    "quantization": "quantization",
    "kv_dtype": "KV",
    "context_window_size": "context",
    "max_batch_size": "batch",
}
_FIGURES = {"total_bytes": "MiB", "decode_tokens_per_s": "tokens/s", "perplexity": "PPL"}


class LiveView:
    """A bar with what is done, running, failed and pruned and the time left, above the best points so far.

    What went wrong stands above it, a line each. ``quiet`` shows those lines alone; ``log`` gets a line for each event;
    a ``transient`` view is gone when it ends.
    """

    def __init__(
        self,
        console: Console | None = None,
        quiet: bool = False,
        log: Path | None = None,
        now: Callable[[], float] = time.monotonic,
        transient: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._quiet, self._now = quiet, now
        self._log = _opened(log) if log else None
        self._total, self._pruned, self._label, self._has_waited = 0, 0, "", False
        self._ended: Counter[str] = Counter()
        self._start = now()
        self._running: dict[str, float] = {}
        self._worked_s = 0.0
        self._front: Sequence[Record] = ()
        self._live = Live(
            console=self._console, get_renderable=self._picture, refresh_per_second=1, transient=transient
        )

    def __enter__(self) -> "LiveView":
        if not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.clear()
        if kind is None:  # what was expected and turned out to be there, or not to be asked for, is not left
            self._total = self._ended.total()
        if not self._quiet:
            self._live.stop()
        if kind is not None:
            self._note(f"ended by {kind.__name__}")
        if self._log is not None:
            self._log.close()

    def start(self, total: int) -> None:
        self._total = total

    def prune(self, points: int) -> None:
        self._pruned = points
        if points:
            self._note(f"{points} points cannot run")

    def begin(self, label: str) -> None:
        self._label = label
        if label not in self._running:
            self._running[label] = self._now()
            self._note(f"begin {label}")

    def wait(self) -> None:
        """Say it once: two studies on one machine take turns from point to point."""
        if not self._has_waited:
            self._print(WAITING)
        self._has_waited = True

    def end(self, status: str, reason: str) -> None:
        begun = self._running.pop(self._label)
        if status != LOST:
            self._ended[status] += 1
            self._worked_s += self._now() - begun
        self._note(": ".join(filter(None, (f"end {self._label}", status, reason))))
        if status not in ("ok", "kept"):
            self._print(f"{self._label}: {status}: {reason}")

    def show(self, front: Sequence[Record]) -> None:
        self._front = front

    def left_s(self) -> float | None:
        """Seconds that the rest will take, if it takes as long as what is done."""
        done, at_once = self._ended.total(), max(1, len(self._running))
        return self._worked_s / done * max(0, self._total - done) / at_once if done else None

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _note(self, event: str) -> None:
        if self._log is not None:
            self._log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {' '.join(event.split())}\n")
            self._log.flush()

    def _picture(self) -> Group:
        running = Text("\n".join(self._running), style="dim")
        return Group(*([self._table()] if self._front else []), self._bar(), running)

    def _bar(self) -> Table:
        done = self._ended.total()
        grid = Table.grid(padding=(0, 1))
        words = [f"{done}/{self._total}", *self._counts(), _clock(self._now() - self._start)]
        left = self.left_s()
        words += [f"left {_clock(left)}"] if left is not None and done < self._total else []
        grid.add_row(ProgressBar(max(self._total, 1), done, width=30), "  ".join(words))
        return grid

    def _counts(self) -> list[str]:
        running = len(self._running)
        failed = self._ended.total() - self._ended["ok"] - self._ended["kept"]
        counts = {"running": running, "failed": failed, "pruned": self._pruned}
        return [f"{number} {name}" for name, number in counts.items() if number]

    def _table(self) -> Table:
        table = Table(*_SHOWN.values(), *_FIGURES.values(), box=None, pad_edge=False, header_style="bold")
        best = sorted(self._front, key=lambda record: record.metrics["total_bytes"])
        for record in best[:_ROWS]:
            table.add_row(
                *(str(record.parameters[name]) for name in _SHOWN), *(_figure(record, name) for name in _FIGURES)
            )
        if len(best) > _ROWS:
            table.add_row(f"and {len(best) - _ROWS} more of the front")
        return table


def _figure(record: Record, name: str) -> str:
    value = record.metrics.get(name)
    if value is None:
        return ""
    return f"{value / 2**20:.0f}" if name == "total_bytes" else f"{value:.1f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"cannot write {path}", error.strerror or str(error), "give another file to --log") from None
