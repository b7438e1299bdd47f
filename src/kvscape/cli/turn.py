"""A command's turn to measure."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_turn() -> Iterator[None]:
    """Measure alone on this machine; a line on stderr says that another process does now."""
    from kvscape.bench import WAITING, turn

    with turn(lambda: print(WAITING, file=sys.stderr, flush=True)):
        yield
