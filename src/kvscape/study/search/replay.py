"""What a search would have found of a grid that is measured whole."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kvscape.config import DesignPoint
from kvscape.results import Record
from kvscape.study.hypervolume import hypervolume, record_costs
from kvscape.study.search.adaptive import Predict, nothing
from kvscape.study.search.choose import SearchSettings, make_search

# How much worse than the worst of a grid the reference is, as a share of its span: the worst points count, too.
_MARGIN = 0.05


def replay(
    settings: SearchSettings,
    grid: Mapping[DesignPoint, Record],
    predict: Predict = nothing,
    exact: Sequence[str] = (),
) -> list[Record]:
    """The records that a search asks for, in its order."""
    search = make_search(settings, list(grid), predict, exact)
    found = []
    while (point := search.ask()) is not None:
        found.append(grid[point])
        search.tell(point, grid[point])
    return found


def share(found: Iterable[Record], grid: Mapping[DesignPoint, Record]) -> float:
    """The part of the whole grid's hypervolume (memory, decode speed, perplexity) that some of its records have."""
    every = np.asarray(record_costs(grid.values()))
    reference = (every.max(axis=0) + _MARGIN * np.ptp(every, axis=0)).tolist()
    return hypervolume(record_costs(found), reference) / hypervolume(every.tolist(), reference)
