"""Searches by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, near_match
from kvscape.results import Record
from kvscape.study.pareto import OBJECTIVES, Direction
from kvscape.study.search.adaptive import Adaptive, Predict, nothing
from kvscape.study.search.sampled import nsga2, tpe
from kvscape.study.search.search import Listed, Search, shuffled
from kvscape.study.search.sobol import sobol_order

Make = Callable[[Sequence[DesignPoint], int, Mapping[str, Direction]], Search]
GRID, ADAPTIVE = "grid", "adaptive"
_MADE: Mapping[str, Make] = {
    GRID: lambda points, seed, objectives: Listed(shuffled(points, seed)),
    "random": lambda points, seed, objectives: Listed(shuffled(points, seed)),
    "sobol": lambda points, seed, objectives: Listed(sobol_order(points, seed)),
    "tpe": tpe,
    "nsga2": nsga2,
}
SEARCHES = (*_MADE, ADAPTIVE)
DEFAULT_POINTS = 24


@dataclass(frozen=True)
class SearchSettings:
    """Which points are measured: all of a ``grid``, else ``points`` of them; each ``repeats`` times over the study.

    ``budget_minutes`` ends the measuring of new points.
    """

    method: str = GRID
    points: int | None = None
    budget_minutes: float | None = None
    seed: int = 0
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.method not in SEARCHES:
            raise ConfigError(f"unknown search {self.method!r}", "", near_match(self.method, SEARCHES))
        if self.method == GRID and self.points is not None:
            raise ConfigError("points of a grid", "a grid is measured whole", "name another search")
        for name, least in (("points", 1), ("seed", 0), ("repeats", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} = {value}", f"it must be at least {least}", "give a larger number")
        if self.budget_minutes is not None and not self.budget_minutes > 0:
            raise ConfigError(f"budget_minutes = {self.budget_minutes}", "there is no time", "give a larger number")

    @property
    def whole(self) -> bool:
        """Whether every point is measured."""
        return self.method == GRID

    def most(self, points: int) -> int:
        """How many of so many points are measured."""
        wanted = points if self.whole or (self.points is None and self.budget_minutes) else self.points
        return min(points, DEFAULT_POINTS if wanted is None else wanted)


def make_search(
    settings: SearchSettings,
    points: Sequence[DesignPoint],
    predict: Predict = nothing,
    exact: Sequence[str] = (),
    objectives: Mapping[str, Direction] = OBJECTIVES,
) -> Search:
    """A search over points that can run, which ends after as many as the settings want."""
    return _Limited(_search(settings, points, predict, exact, objectives), settings.most(len(points)))


def _search(
    settings: SearchSettings,
    points: Sequence[DesignPoint],
    predict: Predict,
    exact: Sequence[str],
    objectives: Mapping[str, Direction],
) -> Search:
    if len(points) < 2:
        return Listed(points)
    if settings.method == ADAPTIVE:
        return Adaptive(points, settings.seed, predict, exact, objectives)
    return _MADE[settings.method](points, settings.seed, objectives)


class _Limited:
    """A search that ends after ``most`` points."""

    def __init__(self, search: Search, most: int) -> None:
        self._search = search
        self._points = islice(iter(search.ask, None), most)

    def ask(self) -> DesignPoint | None:
        return next(self._points, None)

    def tell(self, point: DesignPoint, record: Record) -> None:
        self._search.tell(point, record)
