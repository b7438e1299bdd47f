"""Points on several devices at once: each point once, whatever becomes of the devices."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fake_executor import FakeExecutor, points, space
from fake_kvscape import FACTS
from run_fake_study import Silent, at_rest

from kvscape.config import DesignPoint
from kvscape.errors import DeviceError
from kvscape.results import PerplexityRecord, Record
from kvscape.study import SEARCHES, ModelFacts, Quality, SearchSettings, Space, Store, Study
from kvscape.study.executor import Failed
from kvscape.study.feasibility import predicted_memory
from kvscape.study.slot import SlotLostError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "study.sqlite") as opened:
        yield opened


@dataclass(eq=False)
class FakeSlot:
    """A node that goes after ``lives`` pieces of work, or with the point ``deadly``; it says so for all that follow."""

    name: str
    machine: str = "one"
    available_bytes: int = 10**12
    lives: int = 1000
    deadly: DesignPoint | None = None
    executor: FakeExecutor = field(default_factory=FakeExecutor)
    before: threading.Barrier | None = None
    at_work: int = 0
    is_full: bool = False
    benched: threading.Semaphore | None = None

    def build(self, point: DesignPoint) -> ModelFacts | Failed:
        self._live(point, 0)
        if self.is_full:
            return Failed("failed", "no space left on device")
        facts = self.executor.build(point)
        assert isinstance(facts, ModelFacts)
        return replace(facts, library_key=f"library of {self.machine}")

    def bench(self, point: DesignPoint) -> Record:
        self.at_work += 1
        assert self.at_work == 1
        if self.before is not None:
            self.before.wait(60)
        self._live(point, 1)
        record = self.executor.bench(point)
        self.at_work -= 1
        if self.benched is not None:
            self.benched.release()
        return replace(record, environment={"machine": self.machine, "node": self.name})

    def perplexity(self, point: DesignPoint, quality: Quality) -> PerplexityRecord:
        self._live(point, 1)
        if self.benched is not None:
            assert all(self.benched.acquire(timeout=60) for _ in range(3))
        return self.executor.perplexity(point, quality)

    def _live(self, point: DesignPoint, cost: int) -> None:
        self.lives -= cost
        if self.lives < 0 or point == self.deadly:
            self.lives = -1
            raise SlotLostError(f"node {self.name} has gone")


def run(
    store: Store, *slots: FakeSlot, search: SearchSettings | None = None, what: Space | None = None
) -> list[Record]:
    searched = replace(what or space(), search=search or SearchSettings())
    return Study(searched, store, FakeExecutor(), Silent(), reference=at_rest, slots=slots).run()


def asked(verb: str, *slots: FakeSlot) -> Counter[DesignPoint]:
    return Counter(point for slot in slots for point in slot.executor.verbs(verb))


def test_two_nodes_work_at_once_and_each_point_is_measured_once(store: Store) -> None:
    both = threading.Barrier(2)  # passed only where the two measure at the same time
    slots = FakeSlot("a", before=both), FakeSlot("b", before=both)
    records = run(store, *slots)
    assert [record.parameters for record in records] == [point.flat() for point in points()]
    assert asked("bench", *slots) == Counter(points())
    assert {len(slot.executor.verbs("bench")) for slot in slots} == {8}


def test_equal_quality_is_measured_once_for_all_nodes(store: Store) -> None:
    slots = [FakeSlot(name) for name in "abc"]
    records = run(store, *slots)
    assert sum(asked("ppl", *slots).values()) == 2
    assert all(record.metrics["perplexity"] in (28.0, 28.5) for record in records)


def test_a_point_waits_for_the_perplexity_that_another_node_measures(store: Store) -> None:
    benched = threading.Semaphore(0)  # a perplexity ends when three points are measured, so two wait for it
    slots = FakeSlot("a", benched=benched), FakeSlot("b", benched=benched)
    equal = replace(space(), points=points()[::2])
    records = run(store, *slots, what=equal)
    assert {record.metrics["perplexity"] for record in records} == {28.0}
    assert sum(asked("ppl", *slots).values()) == 1


@pytest.mark.parametrize("lives", [0, 1, 5])
def test_what_a_lost_node_measured_is_measured_elsewhere(store: Store, lives: int) -> None:
    gone, stays = FakeSlot("gone", lives=lives), FakeSlot("stays")
    records = run(store, gone, stays)
    assert len(records) == 16 and {record.status for record in records} == {"ok"}
    assert asked("bench", gone, stays) == Counter(points())
    assert sum(asked("ppl", gone, stays).values()) == 2


def test_a_study_whose_nodes_are_all_lost_says_so_and_goes_on_later(store: Store) -> None:
    first = FakeSlot("a", lives=3), FakeSlot("b", lives=4)
    with pytest.raises(DeviceError, match="no node of the cluster is left"):
        run(store, *first)
    second = FakeSlot("c")
    records = run(store, second)
    assert len(records) == 16 and {record.metrics["perplexity"] for record in records} == {28.0, 28.5}
    assert asked("bench", *first, second) == Counter(points())


def test_a_point_that_ends_its_node_is_given_up_before_it_ends_all(store: Store) -> None:
    deadly = points()[3]
    slots = [FakeSlot(name, deadly=deadly) for name in "abc"]
    records = run(store, *slots, what=replace(space(), quality=None))
    (failed,) = [record for record in records if record.status != "ok"]
    assert failed.parameters == deadly.flat() and failed.status == "failed"
    assert failed.reason.startswith("2 nodes ended while they measured it")
    assert asked("bench", *slots) == Counter(set(points()) - {deadly})


def test_a_node_that_is_gone_before_it_has_its_builds_is_left_out(store: Store) -> None:
    gone, stays = FakeSlot("gone", lives=-1), FakeSlot("stays")
    assert len(run(store, gone, stays)) == 16
    assert len(stays.executor.verbs("bench")) == 16


def test_a_node_that_cannot_have_what_its_equal_has_is_left_out(store: Store) -> None:
    full, other = FakeSlot("full", is_full=True), FakeSlot("other")
    assert {record.status for record in run(store, other, full)} == {"ok"}
    assert not full.executor.asked


def test_builds_that_no_node_can_have_fail_their_points(store: Store) -> None:
    records = run(store, FakeSlot("a", is_full=True), FakeSlot("b", is_full=True))
    assert {(record.status, record.reason) for record in records} == {("failed", "no space left on device")}


def test_a_large_point_goes_to_a_node_with_the_memory(store: Store) -> None:
    enough = predicted_memory(points()[6], ModelFacts.from_json(FACTS)).total_bytes  # for a context of 1024
    small, large = FakeSlot("small", available_bytes=enough), FakeSlot("large")
    records = run(store, small, large)
    assert {record.status for record in records} == {"ok"}
    most = max(point.engine.context_window_size for point in small.executor.verbs("bench"))
    assert most < max(point.engine.context_window_size for point in large.executor.verbs("bench")) == 2048


def test_machines_that_differ_have_keys_of_their_own_and_each_point_one_record(store: Store) -> None:
    slots = FakeSlot("a", "one"), FakeSlot("b", "two")
    records = run(store, *slots)
    assert len(records) == 16 and {record.environment["machine"] for record in records} == {"one", "two"}
    assert all("perplexity" in record.metrics for record in records)
    assert asked("bench", *slots) == Counter(points())
    again = FakeSlot("c", "one"), FakeSlot("d", "two")
    assert run(store, *again) == records
    assert not asked("bench", *again)


def test_repeats_of_a_point_are_of_one_machine(store: Store) -> None:
    slots = FakeSlot("a", "one"), FakeSlot("b", "two")
    records = run(store, *slots, search=SearchSettings(repeats=3))
    assert {record.environment["repeats"] for record in records} == {3}
    for slot in slots:
        assert set(Counter(slot.executor.verbs("bench")).values()) == {3}


def test_repeats_that_only_a_lost_machine_could_measure_are_left_out(store: Store) -> None:
    gone, stays = FakeSlot("a", "one", lives=12), FakeSlot("b", "two")
    records = run(store, gone, stays, search=SearchSettings(repeats=2))
    assert len(records) == 16 and {record.status for record in records} == {"ok"}


@pytest.mark.parametrize("method", SEARCHES)
def test_every_search_works_with_several_nodes(store: Store, method: str) -> None:
    slots = FakeSlot("a"), FakeSlot("b"), FakeSlot("c", lives=3)
    records = run(store, *slots, search=SearchSettings(method, points=None if method == "grid" else 9))
    assert len(records) == (16 if method == "grid" else 9)
    assert {record.status for record in records} == {"ok"}
    assert max(asked("bench", *slots).values()) == 1
