"""What every search does: it names the next point to measure, and is told what came out."""

import random
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from kvscape.config import DesignPoint
from kvscape.results import Record

T = TypeVar("T")


class Search(Protocol):
    """Points that are asked for and not told yet are being measured: there may be several."""

    def ask(self) -> DesignPoint | None:
        """A point that was not asked for before; None when there is none left."""
        ...

    def tell(self, point: DesignPoint, record: Record) -> None:
        """The record of a point, with its perplexity where it has one, whatever its status."""
        ...


class Listed:
    """Points in an order that no result changes."""

    def __init__(self, points: Iterable[DesignPoint]) -> None:
        self._points = iter(points)

    def ask(self) -> DesignPoint | None:
        return next(self._points, None)

    def tell(self, point: DesignPoint, record: Record) -> None: ...


def shuffled(points: Sequence[T], seed: int) -> list[T]:
    """A random order: a drift of the machine then falls on no knob more than on another."""
    order = list(points)
    random.Random(seed).shuffle(order)
    return order
