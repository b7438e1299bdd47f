"""Where kvscape keeps what it downloads."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvscape.errors import HubError


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
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one process: a second download of the same model waits, then finds it there."""
    try:
        lock = (make_folder(folder) / ".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise cannot_write(folder, error) from None
    with lock:
        yield


def cannot_write(path: Path, error: OSError) -> HubError:
    return HubError(
        f"cannot write the cache {path}",
        error.strerror or str(error),
        "set KVSCAPE_HOME to a folder that can be written",
    )
