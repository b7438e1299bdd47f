"""Run a study: what the store has is kept, the rest is measured, one record after the other."""

from collections.abc import Callable
from dataclasses import dataclass

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.bench import turn
from kvscape.config import BuildConfig, DesignPoint, library_kv_dtypes
from kvscape.results import PerplexityRecord, Record, current_environment
from kvscape.study.executor import Executor, Failed, unmeasured, unscored
from kvscape.study.feasibility import infeasible_reason
from kvscape.study.key import quality_key, speed_key
from kvscape.study.model_facts import ModelFacts
from kvscape.study.progress import StudyProgress
from kvscape.study.space import Quality, Space
from kvscape.study.store import Store

# Whose it is, the build, and the KV precisions of its library: the common ones, or one pair.
Library = tuple[str, BuildConfig, tuple[str, ...]]
Builds = dict[Library, ModelFacts | Failed]


@dataclass(frozen=True)
class Task:
    """One record to be made under its key."""

    key: str
    label: str
    make: Callable[[], Record | PerplexityRecord]


@dataclass(frozen=True)
class Study:
    """A space, where its records are kept, and who measures them.

    ``retry`` measures again what failed, ran out of time or of memory; what is infeasible is judged anew every time.
    """

    space: Space
    store: Store
    executor: Executor
    progress: StudyProgress
    retry: bool = False
    available_bytes: Callable[[], int] = available_memory_bytes

    def run(self) -> list[Record]:
        """Finish every point; return the study's records, each with the perplexity of its quality.

        Builds come first, so that no point's time limit pays for a download or a compilation. The rest is done turn by
        turn with other processes that measure on this machine.
        """
        firsts: dict[Library, DesignPoint] = {}
        for point in self.space.points:
            firsts.setdefault(_library(point), point)
        self.progress.start(len(firsts) + len(self.space.points))
        builds = {library: self._build(point) for library, point in firsts.items()}
        speed, quality = self._speed_tasks(builds), self._quality_tasks(builds)
        self.store.set_points(
            self.space.name, zip((task.key for task in speed), self._quality_keys(builds), strict=True)
        )
        waiting = [task for task in {task.key: task for task in (*speed, *quality)}.values() if self._waits(task.key)]
        self.progress.start(len(firsts) + len(waiting))
        for task in waiting:
            self._finish(task)
        return self.store.study_records(self.space.name)

    def _build(self, point: DesignPoint) -> ModelFacts | Failed:
        self.progress.begin(f"compile {point.build.model} {point.build.quantization}")
        result = self.executor.build(point)
        if isinstance(result, Failed):
            self.progress.end(result.status, result.reason)
        else:
            self.progress.end("ok", "")
        return result

    def _speed_tasks(self, builds: Builds) -> list[Task]:
        machine = current_environment().machine
        return [
            Task(speed_key(point, _facts(builds, point), machine), _label("bench", point), self._bench(builds, point))
            for point in self.space.points
        ]

    def _quality_tasks(self, builds: Builds) -> list[Task]:
        quality = self.space.quality
        if quality is None:
            return []
        return [
            Task(
                quality_key(point, _facts(builds, point), quality),
                _label("ppl", point),
                self._ppl(builds, point, quality),
            )
            for point in self.space.points
        ]

    def _quality_keys(self, builds: Builds) -> list[str | None]:
        return [task.key for task in self._quality_tasks(builds)] or [None] * len(self.space.points)

    def _bench(self, builds: Builds, point: DesignPoint) -> Callable[[], Record]:
        def make() -> Record:
            facts = builds[_library(point)]
            if isinstance(facts, Failed):
                return unmeasured(point, facts)
            if reason := infeasible_reason(point, facts, self.available_bytes()):
                return unmeasured(point, Failed("infeasible", reason))
            return self.executor.bench(point)

        return make

    def _ppl(self, builds: Builds, point: DesignPoint, quality: Quality) -> Callable[[], PerplexityRecord]:
        def make() -> PerplexityRecord:
            facts = builds[_library(point)]
            if isinstance(facts, Failed):
                return unscored(point, quality, facts)
            return self.executor.perplexity(point, quality)

        return make

    def _waits(self, key: str) -> bool:
        found = self.store.record(key) or self.store.perplexity(key)
        if found is None or found.status == "infeasible":
            return True
        return self.retry and found.status != "ok"

    def _finish(self, task: Task) -> None:
        self.progress.begin(task.label)
        with turn(self.progress.wait):
            record = task.make()
        self.store.put(task.key, record)
        self.progress.end(record.status, record.reason)


def _library(point: DesignPoint) -> Library:
    return point.subject, point.build, library_kv_dtypes(point.engine.kv_dtype)


def _facts(builds: Builds, point: DesignPoint) -> ModelFacts | None:
    facts = builds[_library(point)]
    return None if isinstance(facts, Failed) else facts


def _label(verb: str, point: DesignPoint) -> str:
    engine = point.engine
    subject = "" if point.subject == DesignPoint().subject else f"{point.subject} "
    where = f"{verb} {subject}{point.build.quantization} kv {engine.kv_dtype}"
    if verb == "ppl":
        return where
    return (
        f"{where} context {engine.context_window_size} chunk {engine.prefill_chunk_size} batch {engine.max_batch_size}"
    )
