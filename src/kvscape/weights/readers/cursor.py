"""Reading little-endian values from bytes, never beyond their end."""

import struct
from mmap import mmap
from typing import Any

from kvscape.errors import WeightsError


class Cursor:
    """A position in ``data``; every read checks first that the bytes are there."""

    def __init__(self, data: bytes | mmap, where: str) -> None:
        self.data, self.where, self.position = data, where, 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise self.truncated(end)
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def scalar(self, letter: str) -> Any:
        """Read one value; ``letter`` is struct's name of its type."""
        return self.scalars(letter, 1)[0]

    def scalars(self, letter: str, count: int) -> list[Any]:
        self.expect(count, struct.calcsize(f"<{letter}"))
        layout = f"<{count}{letter}"
        return list(struct.unpack(layout, self.take(struct.calcsize(layout))))

    def string(self) -> str:
        """Read a length and as many bytes of UTF-8."""
        octets = self.take(self.scalar("Q"))
        try:
            return octets.decode()
        except UnicodeDecodeError:
            raise self.damaged(f"the text before byte {self.position} is not UTF-8") from None

    def expect(self, count: int, least_bytes: int) -> None:
        """Raise WeightsError unless ``count`` things of at least ``least_bytes`` can still follow."""
        end = self.position + count * least_bytes
        if end > len(self.data):
            raise self.truncated(end)

    def truncated(self, needed: int) -> WeightsError:
        why = f"truncated: needs {_bytes(needed)}, has {_bytes(len(self.data))}"
        return WeightsError(self.where, why, "download again")

    def damaged(self, why: str) -> WeightsError:
        return WeightsError(f"{self.where} is damaged", why, "download again")


def _bytes(count: int) -> str:
    return f"{count:,} bytes"
