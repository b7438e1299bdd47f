"""One GGUF file, or the files that a large model was split into, as one."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvscape.errors import WeightsError
from kvscape.quantization.arrays import F32
from kvscape.quantization.ggml import GgmlType, find_ggml_type, values
from kvscape.weights.file_rows import FileRows
from kvscape.weights.readers.gguf_header import GgufHeader, GgufTensor, read_header

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_MOST_FILES = 9999


@dataclass(frozen=True)
class GgufFiles:
    """Metadata of the first file, the tensors of all by name, and where each of them lies."""

    paths: tuple[Path, ...]
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    places: dict[str, Path]

    @property
    def name(self) -> str:
        """The file's name, without the number of a part."""
        part = _PART.fullmatch(self.paths[0].name)
        return f"{part['stem']}.gguf" if part else self.paths[0].name

    @cached_property
    def sha256(self) -> str:
        """Of one file its own; of several that of their hashes."""
        hashes = [_sha256(path) for path in self.paths]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    def rows(self, name: str, kind: GgmlType) -> FileRows:
        """The rows of a tensor; of one dimension, its blocks."""
        tensor = self.tensors[name]
        rows = tensor.shape[0] if len(tensor.shape) > 1 else tensor.shape[0] // kind.block_size
        return FileRows(self.places[name], tensor.offset, (rows, tensor.nbytes // rows))

    def values(self, name: str) -> F32:
        """All values of a tensor of one dimension."""
        kind = find_ggml_type(self.tensors[name].type_name)
        return values(self.rows(name, kind)[:], kind).reshape(-1)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_gguf(path: Path) -> GgufFiles:
    """Read the headers of a file and, where it is the first of several, of all of them.

    Raises WeightsError for a file that is missing, damaged, or no part of what it says it is.
    """
    first = read_header(path)
    count = first.metadata.get("split.count", 1)
    paths = _paths(path, count)
    headers = [first, *map(read_header, paths[1:])]
    for number, (part, header) in enumerate(zip(paths, headers, strict=True)):
        if len(paths) > 1:
            _check_part(part, header, number, count)
    return _joined(paths, headers)


def first_of_split(files: Iterable[Path]) -> Path | None:
    """Return the first of ``files`` if they are the parts of one model, else None."""
    ordered = sorted(files)
    parts = [_PART.fullmatch(path.name) for path in ordered]
    same = {(part["stem"], part["count"]) if part else None for part in parts}
    return ordered[0] if len(same) == 1 and None not in same else None


def _paths(path: Path, count: Any) -> tuple[Path, ...]:
    if count in (0, 1):
        return (path,)
    part = _PART.fullmatch(path.name)
    if not isinstance(count, int) or not 1 < count <= _MOST_FILES or not part or int(part["count"]) != count:
        raise WeightsError(
            f"{path} is part of a split model", f"split.count is {count!r}", "name it as <model>-00001-of-<count>.gguf"
        )
    names = [path.with_name(f"{part['stem']}-{number:05d}-of-{part['count']}.gguf") for number in range(1, count + 1)]
    if int(part["number"]) != 1:
        raise WeightsError(f"{path} is not the first part of its model", "", f"give {names[0].name}")
    missing = [name.name for name in names if not name.exists()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WeightsError(f"{path} is incomplete", f"missing: {', '.join(missing[:3])}{more}", "download all parts")
    return tuple(names)


def _check_part(path: Path, header: GgufHeader, number: int, count: int) -> None:
    found = (header.metadata.get("split.no"), header.metadata.get("split.count"))
    if found != (number, count):
        why = f"split.no and split.count are {found[0]} and {found[1]}, not {number} and {count}"
        raise WeightsError(f"{path} is no part of this model", why, "download all parts again")


def _joined(paths: tuple[Path, ...], headers: list[GgufHeader]) -> GgufFiles:
    tensors: dict[str, GgufTensor] = {}
    places: dict[str, Path] = {}
    for path, header in zip(paths, headers, strict=True):
        if twice := tensors.keys() & header.tensors.keys():
            raise WeightsError(f"{path} is no part of this model", f"it has {min(twice)} again", "download all parts")
        tensors |= header.tensors
        places |= dict.fromkeys(header.tensors, path)
    expected = headers[0].metadata.get("split.tensors.count", len(tensors))
    if len(paths) > 1 and expected != len(tensors):
        why = f"its parts have {len(tensors)} tensors, split.tensors.count is {expected}"
        raise WeightsError(f"{paths[0]} is incomplete", why, "download all parts again")
    return GgufFiles(paths, headers[0].metadata, tensors, places)
