"""Which artefact a file or folder was converted to: while its size and time are the same, it is not read again."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from kvscape.config import BuildConfig
from kvscape.files import write_text
from kvscape.hub import cache_dir
from kvscape.version import __version__


class KnownArtifact:
    """The note on one model, at one place, converted in one way; ``calibration`` is the key of that, if any."""

    def __init__(self, path: Path, build: BuildConfig, calibration: str | None = None) -> None:
        parts = [__version__, build.quantization, str(build.embedding_quantization), *_facts(path.resolve())]
        if calibration is not None:
            parts.append(calibration)
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._note = cache_dir() / "known" / f"{name}.json"

    def find(self) -> tuple[Path, str] | None:
        """The artefact's folder and the key of its weights, or None."""
        try:
            folder, key = json.loads(self._note.read_text(encoding="utf-8"))
            return Path(folder), str(key)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path, key: str) -> None:
        write_text(self._note, json.dumps([str(folder), key]) + "\n")


def _facts(path: Path) -> Iterator[str]:
    for file in _files(path):
        status = file.stat()
        yield f"{file} {status.st_size} {status.st_mtime_ns}"


def _files(path: Path) -> list[Path]:
    """What a model is read from: of a GGUF file that was split, all parts that lie beside it."""
    if path.is_dir():
        return sorted(path.iterdir())
    return sorted(path.parent.glob("*-of-*.gguf")) if "-of-" in path.name else [path]
