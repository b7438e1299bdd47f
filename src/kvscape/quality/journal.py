"""The scores of an interrupted measurement, window by window, so that the next one goes on where it stopped."""

import hashlib
import struct
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kvscape.hub.cache import cannot_write, make_folder
from kvscape.quality.protocols import Window

Scores = NDArray[np.float32]

# The window's digest, how many scores follow, and a checksum of the scores.
_HEAD = struct.Struct("<16sII")


class Journal:
    """A file to which each window's scores are appended; a torn end, as a kill leaves it, is cut off.

    A window is known by its tokens, so that a journal that belongs to another text gives nothing. Raises HubError
    where it cannot be written.
    """

    def __init__(self, path: Path, restart: bool = False) -> None:
        self.path = path
        make_folder(path.parent)
        if restart:
            path.unlink(missing_ok=True)
        self._known, whole_bytes = _read(path)
        try:
            with path.open("ab") as file:
                file.truncate(whole_bytes)
        except OSError as error:
            raise cannot_write(path, error) from None

    def find(self, window: Window) -> Scores | None:
        return self._known.get(_digest(window))

    def add(self, window: Window, scores: Scores) -> None:
        """Append in one write; raise HubError where there is no room."""
        content = scores.astype("<f4").tobytes()
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(_HEAD.pack(_digest(window), len(scores), zlib.crc32(content)) + content)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A measurement that has come to its end needs it no more."""
        if kind is None:
            self.path.unlink(missing_ok=True)


def _digest(window: Window) -> bytes:
    tokens = np.asarray([window.first_target, *window.token_ids], "<i4")
    return hashlib.sha256(tokens.tobytes()).digest()[:16]


def _read(path: Path) -> tuple[dict[bytes, Scores], int]:
    """The entries that are whole, and how many bytes they take."""
    content = path.read_bytes() if path.exists() else b""
    found: dict[bytes, Scores] = {}
    place = 0
    while place + _HEAD.size <= len(content):
        digest, count, checksum = _HEAD.unpack_from(content, place)
        scores = content[place + _HEAD.size : place + _HEAD.size + 4 * count]
        if len(scores) < 4 * count or zlib.crc32(scores) != checksum:
            break
        found[digest] = np.frombuffer(scores, "<f4").astype(np.float32)
        place += _HEAD.size + 4 * count
    return found, place
