"""What every device has of a step: pools of keys and values, and logits, as TVM's tensors in its memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kvscape.config import KVPrecision
from kvscape.engine.devices.decode_numbers import Spare
from kvscape.errors import ConfigError


@dataclass(frozen=True, eq=False)
class TensorPools:
    """For each layer group bytes [layers, pages, page bytes], and f16 [layers, tails, keys of a group].

    ``function`` computes a step on them. ``seen`` int32 [1]: the tokens that a query may see decide how keys are
    rotated, so it is the same for all of them. ``spare`` is what a step's numbers are filled up with, where they are.
    """

    function: str
    pages: Sequence[Any]
    tails: Sequence[Any]
    seen: Any
    spare: Spare | None = None

    @property
    def tensors(self) -> tuple[Any, ...]:
        return (*self.pages, *self.tails)

    @property
    def nbytes(self) -> int:
        return sum(int(np.prod(tensor.shape)) * np.dtype(str(tensor.dtype)).itemsize for tensor in self.tensors)


class TensorLogits(NamedTuple):
    """A tensor f32 [r, vocab]; asking it for r costs more than knowing it."""

    tensor: Any
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.tensor.shape
        return int(rows), int(columns)


def forward_name(kv_dtype: str) -> str:
    """The library's function that computes a step with a KV precision."""
    return f"forward_{KVPrecision.parse(kv_dtype).identifier}"


def check_page_size(page_size: int, multiple: int) -> None:
    """Raise ConfigError for pages that the kernels cannot read."""
    if page_size % multiple:
        why, do = f"the kernels take {multiple} keys at once", f"use a multiple of {multiple}"
        raise ConfigError(f"page_size = {page_size}", why, do)
