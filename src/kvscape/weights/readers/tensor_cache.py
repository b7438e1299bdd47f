"""TVM's tensor cache: a table of tensors in JSON, their bytes in ``params_shard_*.bin``. All is checked before use.

Source: ``dump_tensor_cache`` of TVM's ``contrib/tvmjs.py``. The format ``f32-to-bf16`` keeps of an f32 its upper half,
and says nothing of other types.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from kvscape.errors import UnsupportedModelError, WeightsError
from kvscape.weights.readers.folder import ModelFolder

TABLES = ("tensor-cache.json", "ndarray-cache.json")  # the name now, and until 2025
_ITEM_BYTES: Mapping[str, int] = MappingProxyType({"uint32": 4, "float32": 4, "float16": 2, "bfloat16": 2})


@dataclass(frozen=True)
class CachedTensor:
    """Where one tensor lies. ``dtype`` is that of the bytes: bfloat16 where an f32 was cut to it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Shard:
    """A file of tensors; ``md5`` None where the table does not say it."""

    path: Path
    nbytes: int
    md5: str | None


@dataclass(frozen=True)
class TensorCache:
    """The tensors of a folder by name, and its files."""

    tensors: dict[str, CachedTensor]
    shards: tuple[Shard, ...]

    def verify(self) -> None:
        """Read all files; raise WeightsError for one whose content is not what the table says."""
        for shard in self.shards:
            with shard.path.open("rb") as file:
                if shard.md5 not in (None, hashlib.file_digest(file, "md5").hexdigest()):
                    raise WeightsError(f"{shard.path} is damaged", "its md5sum is another", "download it again")


def table_name(folder: ModelFolder) -> str | None:
    """Return the name of a folder's table, None if it has none."""
    return next((name for name in TABLES if folder.has(name)), None)


def read_cache(folder: ModelFolder) -> TensorCache:
    """Read a folder's table. Raises WeightsError for one that contradicts itself or the files, UnsupportedModelError
    for a tensor of a type that is not known."""
    name = table_name(folder)
    if name is None:
        raise WeightsError(f"{folder.path} has no weights", f"it holds no {' or '.join(TABLES)}", "download it again")
    table = _Table(folder, folder.path / name, folder.json(name))
    shards = [table.shard(entry) for entry in table.objects(table.content, "records")]
    tensors: dict[str, CachedTensor] = {}
    for key, tensor in (record for _, records in shards for record in records):
        if key in tensors:
            raise table.damaged(f"tensor {key!a} occurs twice")
        tensors[key] = tensor
    return TensorCache(tensors, tuple(shard for shard, _ in shards))


class _Table:
    def __init__(self, folder: ModelFolder, path: Path, content: Mapping[str, Any]) -> None:
        self.folder, self.path, self.content = folder, path, content

    def damaged(self, why: str) -> WeightsError:
        return WeightsError(f"{self.path} is damaged", why, "download it again")

    def objects(self, entry: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
        entries = entry.get(name)
        if not isinstance(entries, list) or not all(isinstance(inner, dict) for inner in entries):
            raise self.damaged(f"{name} is no list of objects")
        return entries

    def shard(self, entry: Mapping[str, Any]) -> tuple[Shard, list[tuple[str, CachedTensor]]]:
        place, nbytes, md5 = entry.get("dataPath"), entry.get("nbytes"), entry.get("md5sum")
        if not isinstance(place, str) or entry.get("format") != "raw-shard" or not _is_count(nbytes):
            raise self.damaged(f"a shard is {ascii(place)[:80]} of the format {ascii(entry.get('format'))[:80]}")
        path = self.folder.file(place)
        if (size := path.stat().st_size) != nbytes:
            raise WeightsError(f"{path} is damaged", f"it has {size:,} bytes, not {nbytes:,}", "download it again")
        records = [self._tensor(path, record) for record in self.objects(entry, "records")]
        self._check_places(path, records, size)
        return Shard(path, size, md5 if isinstance(md5, str) else None), records

    def _tensor(self, path: Path, record: Mapping[str, Any]) -> tuple[str, CachedTensor]:
        name, dtype, encoding, shape = map(record.get, ("name", "dtype", "format", "shape"))
        if not isinstance(name, str):
            raise self.damaged(f"a tensor of {path.name} has no name")
        if not isinstance(dtype, str) or dtype not in _ITEM_BYTES or encoding not in ("raw", "f32-to-bf16"):
            what = f"tensor {ascii(name)[:80]} of {path.name} has the type {ascii(dtype)[:40]}"
            known = f"known are {', '.join(_ITEM_BYTES)}, raw or f32-to-bf16"
            raise UnsupportedModelError(f"{what} and the format {ascii(encoding)[:40]}", known, "use another model")
        held = "bfloat16" if encoding == "f32-to-bf16" and dtype == "float32" else dtype
        offset, nbytes = record.get("byteOffset"), record.get("nbytes")
        if not isinstance(shape, list) or len(shape) > 8 or not all(map(_is_count, shape)):
            raise self.damaged(f"tensor {name!a} has the shape {ascii(shape)[:80]}")
        if not _is_count(offset) or not _is_count(nbytes) or nbytes != math.prod(shape) * _ITEM_BYTES[held]:
            raise self.damaged(f"tensor {name!a} of {dtype} {tuple(shape)} does not take {ascii(nbytes)[:40]} bytes")
        return name, CachedTensor(path, held, tuple(shape), offset, nbytes)

    def _check_places(self, path: Path, records: list[tuple[str, CachedTensor]], size: int) -> None:
        reached = 0
        for name, tensor in sorted(records, key=lambda record: (record[1].offset, record[1].nbytes)):
            if tensor.offset < reached:
                raise self.damaged(f"tensor {name!a} of {path.name} overlaps the one before it")
            reached = tensor.offset + tensor.nbytes
            if reached > size:
                raise self.damaged(f"tensor {name!a} ends at {reached:,} of {size:,} bytes of {path.name}")


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 63
