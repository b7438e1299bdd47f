"""Bytes and operations of one kernel call, from its name and the shapes of its arguments."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from kvscape.analysis.roofline import DeviceRates

_MATRIX = re.compile(r"_(\d+)x(\d+)")
_WITH_SCRATCH = ("linear_", "paged_attention_")


@dataclass(frozen=True)
class Array:
    """An argument of a kernel; by TVM's convention results come last."""

    shape: tuple[int, ...]
    itemsize: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.itemsize


@dataclass(frozen=True)
class StepFacts:
    """What shapes do not tell of a step.

    ``keys_seen`` counts the keys of every query, ``keys_present`` those of every sequence once; ``kv_bytes`` and
    ``attention_operations`` are of one token and of one query that sees one key, in one layer.
    """

    tokens: int
    keys_seen: int
    keys_present: int
    kv_bytes: float
    attention_operations: float
    pool_shapes: frozenset[tuple[int, ...]]


@dataclass(frozen=True)
class Cost:
    """What a call must move and compute; one multiply-add is two operations."""

    nbytes: float
    operations: float

    def least_s(self, rates: DeviceRates) -> float:
        """The roofline: the slower of moving and of computing."""
        return max(self.nbytes / rates.memory_bytes_per_s, self.operations / rates.operations_per_s)


def kernel_cost(name: str, arrays: Sequence[Array], step: StepFacts) -> Cost:
    """Cost of one call: every argument moves once; of a KV pool what is present or new, of an embedding its rows.

    Scratch memory, which products and attention of a GPU have behind their results, need not move at all.
    """
    while name.startswith(_WITH_SCRATCH) and len(arrays[-1].shape) == 1:
        arrays = arrays[:-1]
    return Cost(sum(_moved_bytes(name, array, step) for array in arrays), _operations(name, arrays, step))


def _moved_bytes(name: str, array: Array, step: StepFacts) -> float:
    if array.shape in step.pool_shapes:
        return step.kv_bytes * (step.keys_present if "attention" in name else step.tokens)
    if "embedding" in name and array.shape[0] > step.tokens:
        return array.nbytes / array.shape[0] * step.tokens
    if name.startswith("take_rows") and array.shape[0] > 1:
        return 0.0  # only the rows that are taken are read, as many as are written
    return float(array.nbytes)


def _operations(name: str, arrays: Sequence[Array], step: StepFacts) -> float:
    if "attention" in name:
        return step.attention_operations * step.keys_seen
    matrices = [int(rows) * int(columns) for rows, columns in _MATRIX.findall(name)]
    if matrices and "embedding" not in name:
        return 2.0 * sum(matrices) * arrays[-1].shape[0]
    return float(prod(arrays[-1].shape))  # a few for each element; such kernels wait for memory
