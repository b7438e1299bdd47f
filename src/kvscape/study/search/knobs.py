"""The parameters in which the points of a space differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.config import DesignPoint

QUALITY = frozenset(
    ("model", "quantization", "embedding_quantization", "activation", "device", "subject", "kv_dtype",
     "sliding_window_size", "attention_sink_size")
)  # fmt: skip
"""What a perplexity can depend on; see ``study.key``."""


@dataclass(frozen=True)
class Knob:
    """A parameter with the values that it takes, in the order of the space."""

    name: str
    values: tuple[Any, ...]

    @cached_property
    def scale(self) -> NDArray[np.float64] | None:
        """Positions of the values from 0 to 1, by their logarithms; None where they are names and not sizes."""
        if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in self.values):
            return None
        logs = np.log2(np.asarray(self.values, np.float64))
        return np.asarray((logs - logs.min()) / (logs.max() - logs.min()))

    def likeness(self) -> NDArray[np.float64]:
        """How much is known of one value from another, 0 to 1, as [values, values]."""
        if self.scale is None:
            return np.eye(len(self.values))
        distances = self.scale[:, None] - self.scale[None, :]
        return np.asarray(np.exp(-0.5 * np.square(distances / 0.5)))


@dataclass(frozen=True)
class Knobs:
    """The knobs of some points, and each point as the numbers of its values, [points, knobs]."""

    knobs: tuple[Knob, ...]
    levels: NDArray[np.int64]

    @classmethod
    def of(cls, points: Sequence[DesignPoint]) -> "Knobs":
        rows = [point.flat() for point in points]
        values = {name: tuple(dict.fromkeys(row[name] for row in rows)) for name in rows[0]}
        knobs = tuple(Knob(name, found) for name, found in values.items() if len(found) > 1)
        numbers = [{value: number for number, value in enumerate(knob.values)} for knob in knobs]
        levels = [[number[row[knob.name]] for knob, number in zip(knobs, numbers, strict=True)] for row in rows]
        return cls(knobs, np.asarray(levels, np.int64).reshape(len(rows), len(knobs)))

    @property
    def combinations(self) -> int:
        return math.prod(len(knob.values) for knob in self.knobs)

    def index(self) -> dict[tuple[int, ...], int]:
        """The number of a point by the numbers of its values."""
        return {tuple(row): number for number, row in enumerate(self.levels.tolist())}
