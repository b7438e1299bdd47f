"""What was typed in earlier sessions, on disk."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST_BYTES = 1 << 20
_KEPT_ENTRIES = 1000


class HistoryFile:
    """Entries of one line of JSON each, oldest first, that only their owner may read.

    Sessions that run at the same time add to the same file, an entry at a time. Where the file cannot be read or
    written there is no history, and that is no error: a chat must not end for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[str]:
        """Return the last entries; what another program wrote into the file is left out."""
        try:
            with self._locked() as handle:
                return self._read(handle)
        except OSError:
            return []

    def add(self, entry: str) -> None:
        """Add an entry at the end."""
        try:
            with self._locked() as handle:
                os.write(handle, _line(entry))
        except OSError:
            return

    def _read(self, handle: int) -> list[str]:
        content = os.pread(handle, os.fstat(handle).st_size, 0)
        entries = [entry for line in content.splitlines() if (entry := _entry(line)) is not None][-_KEPT_ENTRIES:]
        if len(content) > _MOST_BYTES:
            os.ftruncate(handle, 0)
            os.write(handle, b"".join(map(_line, entries)))
        return entries

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _line(entry: str) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _entry(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, str) else None
