"""What must be copied on the device before the next forward pass."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from kvscape.engine.devices.device import IntArray

Pair: TypeAlias = tuple[int, int]


@dataclass
class Copies:
    """Source and destination of pages, for each layer group, and of tails.

    A source may have lost its holders meanwhile, and a destination too: nothing is written before the copies are made.
    """

    pages: tuple[list[Pair], ...]
    tails: list[Pair] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tails) or any(self.pages)

    def clear(self) -> None:
        for group in self.pages:
            group.clear()
        self.tails.clear()


def pairs(values: Iterable[Pair]) -> IntArray:
    """[c, 2]"""
    return np.array(list(values), np.int32).reshape(-1, 2)
