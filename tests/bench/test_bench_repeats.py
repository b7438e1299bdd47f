from dataclasses import dataclass

import numpy as np

from kvscape.bench.repeats import enough
from kvscape.config import Workload


@dataclass(frozen=True)
class FakeRun:
    duration_s: float
    rates: tuple[float, ...]


def runs_until_enough(durations: list[float], workload: Workload) -> int:
    """Runs with these durations, the last one again and again, whose rates are their inverse."""
    runs: list[FakeRun] = []
    while not enough(runs, workload):
        duration = durations[min(len(runs), len(durations) - 1)]
        runs.append(FakeRun(duration, (1 / duration, 100.0)))
    return len(runs)


def test_without_a_precision_num_runs_follow_one_warm_up() -> None:
    assert runs_until_enough([5.0, 1.0], Workload(num_runs=3)) == 4
    assert runs_until_enough([5.0, 1.0], Workload(num_runs=1)) == 2


def test_a_run_that_still_warmed_up_is_made_up_for() -> None:
    assert runs_until_enough([5.0, 2.0, 1.0], Workload(num_runs=3)) == 5


def test_a_machine_that_never_settles_ends_it() -> None:
    falling = [0.5**number for number in range(50)]
    assert runs_until_enough(falling, Workload(num_runs=3)) == 5


def test_steady_runs_are_precise_after_five() -> None:
    assert runs_until_enough([5.0, 1.0], Workload(num_runs=1, precision=0.03)) == 6


def test_the_finer_the_precision_the_more_runs() -> None:
    noisy = [1.0, *np.random.default_rng(0).normal(1.0, 0.05, 500)]
    coarse, fine, finer = (
        runs_until_enough(noisy, Workload(num_runs=50, precision=precision)) for precision in (0.2, 0.014, 0.007)
    )
    assert coarse == 51
    assert coarse < fine < finer < 400


def test_a_precision_out_of_reach_ends_after_ten_times_num_runs() -> None:
    swinging = [1.0, *([0.8, 1.2] * 100)]
    assert runs_until_enough(swinging, Workload(num_runs=3, precision=0.001)) == 31
