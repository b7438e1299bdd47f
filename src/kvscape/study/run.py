"""Run a study: a search names the points, the store keeps what is measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kvscape.analysis.free_memory import available_memory_bytes
from kvscape.bench.reference import Reference, Watch
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError
from kvscape.results import Record, current_environment
from kvscape.study.builds import Builds, first_of_each, make_builds, study_keys
from kvscape.study.executor import Executor, Failed, unmeasured, unscored
from kvscape.study.feasibility import predicted_memory, refusals
from kvscape.study.listing import Listing
from kvscape.study.measuring import Clock, Crew, Measuring, Wanted, waits
from kvscape.study.pareto import OBJECTIVES, Direction, pareto_front
from kvscape.study.progress import StudyProgress
from kvscape.study.search import Search, make_search
from kvscape.study.search.search import shuffled
from kvscape.study.slot import Slot
from kvscape.study.space import Space
from kvscape.study.spread import make_spread
from kvscape.study.store import Keys, Store
from kvscape.subjects import is_remote


@dataclass(frozen=True)
class Study:
    """A space with its search, where its records are kept, and who measures them.

    With ``slots`` the executor builds here, and the nodes of a cluster measure.
    ``retry`` measures again what failed, ran out of time or of memory; what is infeasible is judged anew every time.
    """

    space: Space
    store: Store
    executor: Executor
    progress: StudyProgress
    retry: bool = False
    available_bytes: Callable[[str], int] = available_memory_bytes
    reference: Callable[[], float] = field(default_factory=Reference)
    slots: Sequence[Slot] = ()

    def run(self) -> list[Record]:
        """Measure what the search asks for; return the study's records, each with the perplexity of its quality.

        Builds come first, so that no point's time limit pays for a download or a compilation, and so that points which
        cannot fit are known before anything runs. A search asks for the same points when it is run again, and what the
        store has of them is not measured again.
        """
        clock = Clock(self.space.search.budget_minutes)
        points = self.space.points
        libraries = len(first_of_each(points))
        self.progress.start(libraries + self.space.search.most(len(points)))
        crew = self._crew()
        builds, keys = crew.builds, crew.keys
        refused = self._refused(crew)
        self.progress.prune(len(refused))
        listing = Listing(self.store, self.space, keys)
        if self.space.search.whole:
            self._put_refused(refused, keys)
            listing.add(points)
        runnable = [point for point in points if point not in refused]
        self.progress.start(libraries + self._work(runnable, keys))
        visited = self._visit(self._search(runnable, builds), crew, listing, clock)
        self._repeat(visited, crew, clock)
        return self.store.study_records(self.space.name)

    def _crew(self) -> Crew:
        """Make the builds: here, or on the nodes of a cluster."""
        points, store = self.space.points, self.store
        if self.slots:
            if any(map(is_remote, points)):
                raise ConfigError("an endpoint in a cluster", "a server is measured from here", "leave --ray out")
            return make_spread(self.space, store, self.executor, self.slots, self.progress, self.retry)
        builds = make_builds(points, self.executor, self.progress, store)
        return Measuring(
            store, self.executor, self.progress, builds, study_keys(self.space, builds), self.space.quality,
            self.retry, self.available_bytes, Watch(self.reference),
        )  # fmt: skip

    def _refused(self, crew: Crew) -> dict[DesignPoint, Failed]:
        """Points that cannot run now and did not run before."""
        statuses = self.store.statuses()
        unknown = [point for point in self.space.points if statuses.get(crew.keys[point][0]) != "ok"]
        return refusals(unknown, crew.builds, crew.available_bytes)

    def _put_refused(self, refused: Mapping[DesignPoint, Failed], keys: Mapping[DesignPoint, Keys]) -> None:
        facts = {device: current_environment(device).to_json() for device in {one.build.device for one in refused}}
        records = {keys[point][0]: unmeasured(point, why, facts[point.build.device]) for point, why in refused.items()}
        self.store.replace_all(records)
        for point, why in refused.items():
            quality = keys[point][1]
            if why.status != "infeasible" and quality is not None and self.space.quality is not None:
                self.store.put(quality, unscored(point, self.space.quality, why))

    def _work(self, points: Sequence[DesignPoint], keys: Mapping[DesignPoint, Keys]) -> int:
        """How many records are to be made; of a search that chooses as it goes, at most."""
        statuses, most = self.store.statuses(), self.space.search.most(len(points))
        new = [
            {key for key in column if key and waits(statuses.get(key), self.retry)}
            for column in ([keys[point][number] for point in points] for number in (0, 1))
        ]
        return sum(min(most, len(keys)) for keys in new) + (self.space.search.repeats - 1) * most

    def _search(self, points: Sequence[DesignPoint], builds: Builds) -> Search:
        def predict(point: DesignPoint) -> dict[str, float]:
            facts = builds.facts(point)
            return {"total_bytes": predicted_memory(point, facts).total_bytes} if facts else {}

        return make_search(self.space.search, points, predict, objectives=self._objectives)

    @property
    def _objectives(self) -> Mapping[str, Direction]:
        return {name: way for name, way in OBJECTIVES.items() if self.space.quality or name != "perplexity"}

    def _visit(self, search: Search, crew: Crew, listing: Listing, clock: Clock) -> list[DesignPoint]:
        """Measure the points that the search asks for, until it or the time ends; return those that ran."""
        visited: list[DesignPoint] = []
        front: list[Record] = []
        for point, duration_s in crew.each(self._asked(search, listing, clock)):
            clock.note(duration_s)
            listing.add([point])  # of several machines, the one that measured it
            record = self.store.result(crew.keys[point])
            if record is None:
                continue
            if record.status == "ok":
                visited.append(point)
            search.tell(point, record)
            front = pareto_front([*front, record], self._objectives)
            self.progress.show(front)
        return visited

    def _asked(self, search: Search, listing: Listing, clock: Clock) -> Iterator[Wanted]:
        while clock.has_time and (point := search.ask()) is not None:
            if not self.space.search.whole:
                listing.add([point])
            yield point, 0

    def _repeat(self, points: Sequence[DesignPoint], crew: Crew, clock: Clock) -> None:
        """Measure all points once more before any of them a third time, in another order each time."""
        for repeat in range(1, self.space.search.repeats):
            order = shuffled(points, self.space.search.seed + repeat)
            for _, duration_s in crew.each((point, repeat) for point in order if clock.has_time):
                clock.note(duration_s)
