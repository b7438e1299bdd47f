"""Progress of a program that reports none: how its folder grows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from kvscape.hub.progress import Progress

_INTERVAL_S = 0.2


@contextmanager
def watched(folder: Path, what: str, total_bytes: int, progress: Progress) -> Iterator[None]:
    """Tell ``progress`` by how many bytes ``folder`` has grown, several times a second, while the block runs."""
    before, ended = _size_bytes(folder), Event()

    def report() -> None:
        while not ended.wait(_INTERVAL_S):
            progress(what, min(_size_bytes(folder) - before, total_bytes), total_bytes)

    progress(what, 0, total_bytes)
    thread = Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    progress(what, total_bytes, total_bytes)


def _size_bytes(folder: Path) -> int:
    """Bytes of all files; what is renamed or removed meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that vanish, which rglob does not
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
