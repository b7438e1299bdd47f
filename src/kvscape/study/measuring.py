"""One piece of a study's work after the other: what the store has is kept, the rest is measured in its turn."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from statistics import fmean
from typing import Protocol

from kvscape.bench import turn
from kvscape.bench.reference import Watch
from kvscape.config import DesignPoint
from kvscape.results import PerplexityRecord, Record
from kvscape.study.builds import Builds
from kvscape.study.executor import Executor, Failed, unmeasured
from kvscape.study.feasibility import infeasible_reason
from kvscape.study.progress import StudyProgress
from kvscape.study.space import Quality
from kvscape.study.store import Keys, Store
from kvscape.study.watched import Watched

KEPT = "kept"

Wanted = tuple[DesignPoint, int]
"""A point and which of its repeats."""


class Clock:
    """The time that a study has; what would not end in time, as long as its like took, is not begun."""

    def __init__(self, budget_minutes: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = now() + 60 * budget_minutes if budget_minutes else inf
        self._durations_s: list[float] = []

    @property
    def has_time(self) -> bool:
        usual_s = fmean(self._durations_s) if self._durations_s else 0.0
        return self._now() + usual_s < self._end

    def note(self, duration_s: float | None) -> None:
        """What was begun has ended; what was there already, None, says nothing of the time that others will take."""
        if duration_s is not None:
            self._durations_s.append(duration_s)


class Crew(Protocol):
    """Who measures points into a store; of the keys that a point may have, ``keys`` names the one that counts."""

    @property
    def builds(self) -> Builds: ...

    @property
    def keys(self) -> Mapping[DesignPoint, Keys]: ...

    @property
    def available_bytes(self) -> Callable[[str], int]:
        """Free memory of a device."""
        ...

    def each(self, wanted: Iterable[Wanted]) -> Iterator[tuple[DesignPoint, float | None]]:
        """Each point when it is done, with the seconds it took, None where nothing was to do."""
        ...


@dataclass(frozen=True)
class Measuring:
    """Measures points of known keys into a store, one at a time among all processes of a machine."""

    store: Store
    executor: Executor
    progress: StudyProgress
    builds: Builds
    keys: Mapping[DesignPoint, Keys]
    quality: Quality | None
    retry: bool
    available_bytes: Callable[[str], int]
    watch: Watch
    tried: set[tuple[str, int]] = field(default_factory=set)

    def each(self, wanted: Iterable[Wanted]) -> Iterator[tuple[DesignPoint, float | None]]:
        """Measure one after the other; the next is asked for when the one before is done."""
        for point, repeat in wanted:
            start = time.monotonic()
            has_worked = self.measure(point, repeat)
            yield point, time.monotonic() - start if has_worked else None

    def measure(self, point: DesignPoint, repeat: int = 0) -> bool:
        """Speed, and with the first repeat the perplexity of its quality; return whether anything was to be done."""
        done = self._speed(point, repeat)
        if self.quality is not None and repeat == 0:
            done |= self._perplexity(point, self.quality)
        return done

    def _waits(self, key: str, repeat: int) -> bool:
        """Whether there is a record to make."""
        if (key, repeat) in self.tried:
            return False
        found = self.store.repeat(key, repeat) or self.store.perplexity(key)
        return waits(found.status if found else None, self.retry)

    def _speed(self, point: DesignPoint, repeat: int) -> bool:
        def make() -> Record:
            facts = self.builds.facts(point)
            free = self.available_bytes(point.build.device)
            if facts and (reason := infeasible_reason(point, facts, free)):
                return unmeasured(point, Failed("infeasible", reason))
            return Watched(self.executor, self.watch).bench(point)

        return self._in_turn(self.keys[point][0], repeat, label("bench", point), make)

    def _perplexity(self, point: DesignPoint, quality: Quality) -> bool:
        key = self.keys[point][1]
        if key is None:
            return False
        return self._in_turn(key, 0, label("ppl", point), lambda: self.executor.perplexity(point, quality))

    def _in_turn(self, key: str, repeat: int, name: str, make: Callable[[], Record | PerplexityRecord]) -> bool:
        """Make a record that waits; another study may have made it before this one had its turn."""
        if not self._waits(key, repeat):
            return False
        self.progress.begin(name)
        with turn(self.progress.wait):
            still = self._waits(key, repeat)
            if still:
                start = time.monotonic()
                record = make()
                self.store.put(key, record, repeat, time.monotonic() - start)
        self.tried.add((key, repeat))
        self.progress.end(*((record.status, record.reason) if still else (KEPT, "")))
        return still


def waits(status: str | None, retry: bool) -> bool:
    """Whether a record of this status is made anew; None is one that is not there."""
    return status in (None, "infeasible") or (retry and status != "ok")


def label(verb: str, point: DesignPoint) -> str:
    """A piece of work in a few words."""
    engine = point.engine
    subject = "" if point.subject == DesignPoint().subject else f"{point.subject} "
    where = f"{verb} {subject}{point.build.quantization} kv {engine.kv_dtype}"
    if verb == "ppl":
        return where
    return (
        f"{where} context {engine.context_window_size} chunk {engine.prefill_chunk_size} batch {engine.max_batch_size}"
    )
