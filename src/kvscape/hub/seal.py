"""A file's size, time and sha256 in a small JSON file beside it: a damaged file is noticed without reading it."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvscape.errors import KvscapeError
from kvscape.files import write_text


def seal(path: Path, sha256: str) -> None:
    """Record what ``path`` holds now."""
    write_text(_beside(path), json.dumps({**_facts(path), "sha256": sha256}) + "\n")


def is_intact(path: Path) -> bool:
    """Whether ``path`` holds what was sealed. It is read only if its time has changed."""
    try:
        recorded, facts = json.loads(_beside(path).read_text(encoding="utf-8")), _facts(path)
    except (OSError, ValueError):
        return False
    if not isinstance(recorded, dict) or recorded.get("bytes") != facts["bytes"]:
        return False
    return recorded.get("modified_ns") == facts["modified_ns"] or _is_same_content(path, recorded)


def _is_same_content(path: Path, recorded: dict[str, Any]) -> bool:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != recorded.get("sha256"):
        return False
    with suppress(KvscapeError):  # a copied cache may be read-only: then the next run reads the file again
        seal(path, sha256)
    return True


def _facts(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
