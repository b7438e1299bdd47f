"""Progress of a program that reports none: how its folder grows."""

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
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # renamed or removed since it was listed
            total += 0 if path.is_symlink() or not path.is_file() else path.stat().st_size
    return total
