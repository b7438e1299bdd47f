"""A machine's measured limits, which predictions of speed begin with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """What ``threads`` threads of a machine reach; one multiply-add is two operations.

    Integer operations are products of 8-bit codes, float ones of f16 weights and f32 activations, both in the kernels
    that models run; ``call_s`` is what the smallest kernel takes, ``token_s`` the engine's own work for a sequence of
    a step. ``machine`` is the environment's fingerprint. A GPU reaches the same whatever the host's threads, and counts
    as 1.
    """

    machine: str
    threads: int
    memory_bytes_per_s: float
    integer_operations_per_s: float
    float_operations_per_s: float
    call_s: float
    token_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Device":
        return cls(**raw)
