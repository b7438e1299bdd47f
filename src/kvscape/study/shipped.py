"""An artefact's way to another machine: what is to be sent, and the folder that gets it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvscape.hub.cache import cache_dir, make_folder
from kvscape.study.model_facts import ModelFacts
from kvscape.version import __version__

MANIFEST = "kvscape.json"
CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Parcel:
    """Files of one artefact, without the libraries that a build does not use.

    ``name`` holds the weights' key, so that a node has them once, whatever libraries come after them.
    """

    name: str
    folder: Path
    files: Mapping[str, int]

    def chunks(self, file: str) -> Iterator[tuple[int, bytes]]:
        """Pieces of a file and where they begin; one of an empty file."""
        with (self.folder / file).open("rb") as source:
            start = 0
            while (chunk := source.read(CHUNK_BYTES)) or not start:
                yield start, chunk
                start += len(chunk)
                if len(chunk) < CHUNK_BYTES:
                    return


@dataclass(frozen=True)
class Made:
    """What a build here gave: its facts, and the parcel where it is a folder that another machine can use."""

    facts: ModelFacts
    parcel: Parcel | None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Made":
        """Read the object that ``kvscape compile --json`` prints."""
        facts, folder = ModelFacts.from_json(raw), Path(raw["artifact"])
        if not (folder / MANIFEST).is_file():  # another subject's
            return cls(facts, None)
        found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        wanted = [path for path in found if path.parent.name != "lib" or path == Path(raw["library"])]
        # The manifest comes last: an artefact that is not whole has none.
        wanted.sort(key=lambda path: path.name == MANIFEST)
        files = {str(path.relative_to(folder)): path.stat().st_size for path in wanted}
        return cls(facts, Parcel(f"{folder.name}-{facts.weights_key[:12]}-{__version__}", folder, files))


@dataclass(frozen=True)
class Shelf:
    """Where a node keeps what it was sent. A file has its name when it is whole; what is there is not sent again."""

    name: str

    @property
    def folder(self) -> Path:
        return cache_dir() / "shipped" / self.name

    def missing(self, files: Mapping[str, int]) -> list[str]:
        return [file for file, size in files.items() if _size(self.folder / file) != size]

    def write(self, file: str, start: int, chunk: bytes) -> None:
        """Add a piece to what is there of a file under another name. Raises HubError for a cache without access."""
        partial = self._partial(file)
        make_folder(partial.parent)
        with partial.open("r+b" if start else "wb") as target:
            target.seek(start)
            target.write(chunk)
            target.truncate()

    def finish(self, file: str) -> None:
        self._partial(file).replace(self.folder / file)

    def _partial(self, file: str) -> Path:
        path = self.folder / file
        return path.with_name(f".{path.name}.{os.getpid()}")


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size
    return None
