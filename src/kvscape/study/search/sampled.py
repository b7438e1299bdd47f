"""Optuna's samplers over the points of a space."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvscape.config import DesignPoint
from kvscape.results import Record
from kvscape.study.hypervolume import costs
from kvscape.study.pareto import OBJECTIVES, Direction
from kvscape.study.search.knobs import Knobs
from kvscape.study.search.search import shuffled

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

_TRIES = 100


class Sampled:
    """Asks a sampler for values of the knobs, until they make a point that is in the space and was not asked for."""

    def __init__(
        self,
        points: Sequence[DesignPoint],
        sampler: "BaseSampler",
        seed: int = 0,
        objectives: Mapping[str, Direction] = OBJECTIVES,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._points, self._objectives = points, objectives
        self._knobs = Knobs.of(points)
        self._index = self._knobs.index()
        self._study = optuna.create_study(directions=["minimize"] * len(objectives), sampler=sampler)
        self._choices: dict[str, BaseDistribution] = {
            knob.name: optuna.distributions.CategoricalDistribution(range(len(knob.values)))
            for knob in self._knobs.knobs
        }
        self._spare = shuffled(range(len(points)), seed)
        self._trials: dict[int, Trial] = {}
        self._values: dict[int, tuple[float, ...]] = {}
        self._numbers = {point: number for number, point in enumerate(points)}

    def ask(self) -> DesignPoint | None:
        for _ in range(_TRIES):
            trial = self._study.ask(self._choices)
            number = self._index.get(tuple(trial.params[knob.name] for knob in self._knobs.knobs))
            if number is not None and number not in self._trials:
                return self._asked(number, trial)
            self._tell(trial, self._values.get(number) if number is not None else None)
        return self._any()

    def tell(self, point: DesignPoint, record: Record) -> None:
        number = self._numbers[point]
        if record.status == "ok" and set(self._objectives) <= set(record.metrics):
            self._values[number] = costs(record.metrics, self._objectives)
        self._tell(self._trials[number], self._values.get(number))

    def _any(self) -> DesignPoint | None:
        """A point that is left, where the sampler comes back to the same ones."""
        number = next((number for number in self._spare if number not in self._trials), None)
        if number is None:
            return None
        levels = self._knobs.levels[number].tolist()
        self._study.enqueue_trial(dict(zip(self._choices, levels, strict=True)))
        return self._asked(number, self._study.ask(self._choices))

    def _asked(self, number: int, trial: "Trial") -> DesignPoint:
        self._trials[number] = trial
        return self._points[number]

    def _tell(self, trial: "Trial", values: Sequence[float] | None) -> None:
        import optuna

        if values is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, values)


def tpe(points: Sequence[DesignPoint], seed: int, objectives: Mapping[str, Direction]) -> Sampled:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), for several objectives (Ozaki et al. 2022)."""
    import optuna

    return Sampled(points, optuna.samplers.TPESampler(seed=seed, n_startup_trials=8), seed, objectives)


def nsga2(points: Sequence[DesignPoint], seed: int, objectives: Mapping[str, Direction]) -> Sampled:
    """The genetic algorithm of Deb et al. (2002), with generations small enough for a few dozen points."""
    import optuna

    return Sampled(points, optuna.samplers.NSGAIISampler(seed=seed, population_size=8), seed, objectives)
