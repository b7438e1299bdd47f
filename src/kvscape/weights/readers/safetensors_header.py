"""The header of a safetensors file, checked against the file's size before anything is read.

The format: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, the data without holes.
Source: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from kvscape.errors import UnsupportedModelError, WeightsError

_MAX_HEADER_BYTES = 100_000_000  # the safetensors package's own limit
_MAX_DIMENSIONS = 8
# The types that weights are read from; GGML calls them so too.
DTYPES = ("F32", "F16", "BF16")
_ITEM_BYTES = MappingProxyType(
    {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4}
    | {"I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
)


@dataclass(frozen=True)
class SafeTensor:
    """Where one tensor lies; ``offset`` is from the beginning of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, SafeTensor]:
    """Return the tensors of a file. Raises WeightsError for a damaged one, naming what is wrong."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise damaged(path, f"its header of {length:,} bytes does not fit into its {size:,} bytes")
            header = json.loads(file.read(length))
    except OSError as error:
        raise WeightsError(f"cannot read {path}", error.strerror or str(error), "check the path") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is no JSON: {error}") from None
    return dict(_tensors(path, header, 8 + length, size))


def _tensors(path: Path, header: Any, start: int, size: int) -> Iterator[tuple[str, SafeTensor]]:
    if not isinstance(header, dict):
        raise damaged(path, "its header is no JSON object")
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items() if name != "__metadata__"}
    reached = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if tensor.offset != reached:
            what = "overlaps the one before it" if tensor.offset < reached else "leaves a hole before it"
            raise damaged(path, f"tensor {name!r} {what}")
        reached += tensor.nbytes
    if reached != size:
        raise damaged(path, f"it needs {reached:,} bytes, has {size:,}")
    yield from tensors.items()


def _tensor(path: Path, name: str, entry: Any, start: int) -> SafeTensor:
    if not isinstance(entry, dict):
        raise damaged(path, f"tensor {name!r} has no description")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise UnsupportedModelError(f"tensor {name!r} of {path} has the unknown type {dtype!r}", "", _OTHER)
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise damaged(path, f"tensor {name!r} has the shape {str(shape)[:80]}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise damaged(path, f"tensor {name!r} lies at {str(offsets)[:80]}")
    nbytes = math.prod(shape) * _ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != nbytes:
        why = f"tensor {name!r} of shape {tuple(shape)} and type {dtype} does not take {offsets[1] - offsets[0]} bytes"
        raise damaged(path, why)
    return SafeTensor(path, dtype, tuple(shape), start + offsets[0], nbytes)


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    """Whole numbers below 2^63, as a file's sizes are."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is damaged", why, "download it again")


_OTHER = f"use a file whose tensors are {', '.join(DTYPES)}"
