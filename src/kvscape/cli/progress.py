"""A bar with the time left, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvscape.quality.perplexity import Told


@contextmanager
def bar(label: str, total: int | None = None) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Show a bar in a terminal while the block runs; yield what sets its total and what advances it by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda known: progress.update(task, total=known), lambda: progress.advance(task)


@contextmanager
def perplexity_bar() -> "Iterator[Told]":
    """Show the tokens that are scored, and the perplexity so far."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from kvscape.quality import Running

    columns = (TextColumn("ppl {task.fields[ppl]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("ppl", total=None, ppl="")

        def told(running: Running) -> None:
            ppl = f"{running.perplexity:.3f}"
            progress.update(task, completed=running.tokens_done, total=running.tokens_total, ppl=ppl)

        yield told
