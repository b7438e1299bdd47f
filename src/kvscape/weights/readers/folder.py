"""The files of a model's folder, none of them outside it."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kvscape.errors import WeightsError

_HASH = re.compile("[0-9a-f]{64}")
_MAX_TEXT_BYTES = 256 << 20


class ModelFolder:
    """A folder that a stranger may have written: names in it lead nowhere else, texts are not endless.

    The Hugging Face hub's cache keeps the contents of a snapshot's files in ``blobs`` beside it, or in one for all
    models: these belong to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside = [path.resolve()]
        if _is_snapshot(path):
            self._inside += [(path.parents[level] / "blobs").resolve() for level in (1, 2)]

    @property
    def name(self) -> str:
        """The folder's name; of a snapshot in the hub's cache, the model's."""
        return self.path.parent.parent.name.split("--")[-1] if _is_snapshot(self.path) else self.path.resolve().name

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def file(self, name: str) -> Path:
        """Return where a file of the folder lies; raise WeightsError if there is none or it lies outside."""
        path = self.path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise WeightsError(f"{self.path} is damaged", f"it names the file {name!r}", "download it again")
        try:
            inside = any(path.resolve(strict=True).is_relative_to(root) for root in self._inside)
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that no file can have
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise WeightsError(f"cannot read {str(path)!a}", why, "download it again") from None
        if not inside or not path.is_file():
            raise WeightsError(f"cannot read {path}", "it is no file inside its folder", "copy the file itself there")
        return path

    def text(self, name: str) -> str:
        path = self.file(name)
        try:
            if path.stat().st_size > _MAX_TEXT_BYTES:
                raise WeightsError(f"cannot read {path}", "it is too large for a text", "download it again")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read {path}", str(error), "download it again") from None

    def json(self, name: str) -> dict[str, Any]:
        """Return the object that a JSON file holds."""
        try:
            content = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{self.path / name} is damaged", str(error), "download it again") from None
        if not isinstance(content, dict):
            raise WeightsError(f"{self.path / name} is damaged", "it holds no JSON object", "download it again")
        return content

    def optional_json(self, name: str) -> Mapping[str, Any]:
        return self.json(name) if self.has(name) else {}

    def sha256(self, names: Iterable[str]) -> str:
        """Return a hash of the names and contents of files; those that are not there do not count."""
        total = hashlib.sha256()
        for name in sorted({name for name in names if self.has(name)}):
            total.update(f"{name}\0{self._digest(self.file(name))}\n".encode())
        return total.hexdigest()

    def _digest(self, path: Path) -> str:
        """In the hub's cache a large file's content has its own hash for a name: gigabytes need not be read for it."""
        content = path.resolve()
        if _is_snapshot(self.path) and _HASH.fullmatch(content.name):
            return content.name
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _is_snapshot(path: Path) -> bool:
    return path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
