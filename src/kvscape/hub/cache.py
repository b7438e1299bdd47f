"""Where kvscape keeps what it downloads."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kvscape.errors import HubError

_AGAIN_S = 0.05


def cache_dir() -> Path:
    """Return ``$KVSCAPE_HOME``, else ``$XDG_CACHE_HOME/kvscape``, else ``~/.cache/kvscape``; it may not exist yet."""
    if home := os.environ.get("KVSCAPE_HOME"):
        return Path(home).expanduser().absolute()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path is invalid and ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "kvscape"


def make_folder(folder: Path) -> Path:
    """Make a folder of the cache. Raises HubError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    return folder


@contextmanager
def locked(folder: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold ``folder`` for one process: a second download of the same model waits, then finds it there.

    ``waits`` is called once before waiting. The lock ends with its process, however that ends.
    """
    try:
        lock = (make_folder(folder) / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from None
    with lock:
        try:
            _take(lock, waits)
        except OSError as error:
            raise cannot_write(folder, error) from None
        yield


def _take(lock: IO[str], waits: Callable[[], None]) -> None:
    """Ask again and again: a Ctrl-C that comes just before a call that blocks is seen only when that call returns."""
    if _free(lock):
        return
    waits()
    while not _free(lock):
        time.sleep(_AGAIN_S)


def _free(lock: IO[str]) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def cannot_write(path: Path, error: OSError) -> HubError:
    return HubError(
        f"cannot write the cache {path}",
        error.strerror or str(error),
        "set KVSCAPE_HOME to a folder that can be written",
    )
