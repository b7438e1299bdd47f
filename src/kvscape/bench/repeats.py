"""How often a workload is run: until enough runs are at one level, and their medians are known well enough."""

from collections.abc import Sequence
from typing import Protocol

from kvscape.analysis.statistics import median_interval, relative_width, warm_up_runs
from kvscape.config import Workload

# Fewer runs span too little for an interval of their median.
LEAST_FOR_PRECISION = 5
MOST = 10


class Rates(Protocol):
    """What a run must say to decide whether another one is needed."""

    @property
    def duration_s(self) -> float: ...

    @property
    def rates(self) -> tuple[float, ...]: ...


def enough(runs: Sequence[Rates], workload: Workload) -> bool:
    """Whether the runs so far, warm-up included, will do.

    There must be ``num_runs`` after the warm-up, five where a ``precision`` is asked for, and then each rate's median
    must be known to +-``precision``. Runs that still warmed up are made up for; since they are half of all at most, a
    machine that never settles ends this, too. A precision that is out of reach ends after ten times ``num_runs``.
    """
    if not runs:
        return False
    asked = workload.num_runs if workload.precision is None else max(workload.num_runs, LEAST_FOR_PRECISION)
    steady = runs[warm_up_runs([run.duration_s for run in runs]) :]
    if len(steady) < asked:
        return False
    return workload.precision is None or len(steady) >= MOST * workload.num_runs or _known(steady, workload.precision)


def _known(runs: Sequence[Rates], precision: float) -> bool:
    return all(
        relative_width(median_interval(values)) <= precision
        for values in zip(*(run.rates for run in runs), strict=True)
    )
