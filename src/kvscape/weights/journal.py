"""What an interrupted conversion has finished: a line of JSON for each tensor, with the checksums of its blocks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvscape.config.fields import from_mapping
from kvscape.errors import KvscapeError
from kvscape.files import write_text


@dataclass(frozen=True)
class Finished:
    """A tensor that is written: its error, and the CRC-32 of each of its blocks, all stored arrays together."""

    name: str
    relative_error: float
    checksums: tuple[int, ...]


class Journal:
    """The finished tensors of one conversion; those of another one, or lines cut short, do not count."""

    def __init__(self, path: Path, conversion: str) -> None:
        self._path = path
        first, *lines = _lines(path) or [None]
        self.finished = {entry.name: entry for entry in map(_entry, lines) if entry} if first == conversion else {}
        write_text(path, "".join(map(_line, [conversion, *map(asdict, self.finished.values())])))

    def add(self, finished: Finished) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(asdict(finished)))


def _line(value: Any) -> str:
    return json.dumps(value) + "\n"


def _lines(path: Path) -> list[Any]:
    try:
        return [_parsed(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except FileNotFoundError:
        return []


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _entry(line: Any) -> Finished | None:
    try:
        checksums: Sequence[int] = tuple(line["checksums"])
        return from_mapping(Finished, {**line, "checksums": checksums}, "journal")
    except (KvscapeError, TypeError, KeyError):
        return None
