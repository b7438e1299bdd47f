"""Object files that were compiled before, by key: whole or not there, and no more than so many bytes of them."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvscape.errors import KvscapeError
from kvscape.files import written_file
from kvscape.hub import cache_dir

_SEAL_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class ObjectCache:
    """Files under ``folder``, each sealed with the hash of its content; those unused for longest go first."""

    folder: Path
    most_bytes: int = 256 << 20

    def find(self, key: str) -> bytes | None:
        """The object file of ``key``, or None if it is not there or not what was written."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        seal, code = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        return code if hashlib.sha256(code).digest() == seal else None

    def add(self, objects: Mapping[str, bytes]) -> None:
        """Keep object files by key; a folder that cannot be written costs the next compilation its time, no more."""
        try:
            for key, code in objects.items():
                with written_file(self._path(key)) as temporary:
                    temporary.write_bytes(hashlib.sha256(code).digest() + code)
            self._trim()
        except (KvscapeError, OSError):
            return

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.o"

    def _trim(self) -> None:
        with os.scandir(self.folder) as entries:
            files = [(entry.stat(), entry.path) for entry in entries]
        left = sum(facts.st_size for facts, _ in files)
        for facts, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if left <= self.most_bytes:
                return
            Path(path).unlink(missing_ok=True)
            left -= facts.st_size


def kernel_cache() -> ObjectCache:
    """The user's."""
    return ObjectCache(cache_dir() / "kernels")
