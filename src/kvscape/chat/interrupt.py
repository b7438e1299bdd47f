"""Ctrl-C as a wish to stop, not as an exception in the middle of anything."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed; a second one raises KeyboardInterrupt, should the first not be heard."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def caught_interrupt() -> Iterator[Interrupt]:
    """Catch Ctrl-C while the block runs. Only the main thread may call it."""
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
