"""What a study measures, in which order, and what it keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
from fake_executor import QUALITY, FakeExecutor, points, space
from run_fake_study import Silent, at_rest

from kvscape.bench import turn
from kvscape.config import DesignPoint
from kvscape.errors import ResultsError
from kvscape.results import Record
from kvscape.study import SEARCHES, SearchSettings, Space, Store, Study
from kvscape.study.measuring import Clock


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "study.sqlite") as opened:
        yield opened


def run(
    store: Store,
    executor: FakeExecutor,
    search: SearchSettings = SearchSettings(),  # noqa: B008
    what: Space | None = None,
    reference: Callable[[], float] = at_rest,
    memory: int = 10**12,
) -> list[Record]:
    searched = replace(what or space(), search=search)
    return Study(searched, store, executor, Silent(), False, lambda device: memory, reference).run()


def test_a_grid_measures_every_point_once_in_an_order_of_its_own(store: Store) -> None:
    executor = FakeExecutor()
    records = run(store, executor)
    assert [record.parameters for record in records] == [point.flat() for point in points()]
    measured = executor.verbs("bench")
    assert sorted(map(str, measured)) == sorted(map(str, points()))
    assert measured != list(points())
    assert len(executor.verbs("ppl")) == 2 and len(executor.verbs("build")) == 1


def test_repeats_of_a_point_are_spread_over_the_study(store: Store) -> None:
    executor = FakeExecutor()
    records = run(store, executor, SearchSettings(repeats=3))
    measured = executor.verbs("bench")
    rounds = [measured[start : start + 16] for start in (0, 16, 32)]
    assert all(set(one) == set(points()) for one in rounds) and len(measured) == 48
    assert rounds[0] != rounds[1] != rounds[2]
    assert {record.environment["repeats"] for record in records} == {3}
    assert len(executor.verbs("ppl")) == 2
    again = FakeExecutor()
    assert run(store, again, SearchSettings(repeats=3)) == records
    assert {verb for verb, _ in again.asked} == {"build"}


@pytest.mark.parametrize("method", SEARCHES[1:])
def test_a_search_that_is_run_again_goes_on_where_it_was(store: Store, method: str) -> None:
    first, second = FakeExecutor(), FakeExecutor()
    assert len(run(store, first, SearchSettings(method, 4))) == 4
    records = run(store, second, SearchSettings(method, 7))
    assert len(records) == 7 and len(second.verbs("bench")) == 3
    assert not set(first.verbs("bench")) & set(second.verbs("bench"))


def test_adaptive_goes_where_the_front_is(store: Store) -> None:
    class Peak(FakeExecutor):
        def bench(self, point: DesignPoint) -> Record:
            self.speeds = [1000.0 / point.engine.context_window_size]
            return super().bench(point)

    executor = Peak()
    run(store, executor, SearchSettings("adaptive", 14), space(40))
    assert DesignPoint.from_flat(points(1)[0].flat()) in executor.verbs("bench")


def test_a_search_prunes_what_cannot_fit_and_does_not_record_it(store: Store) -> None:
    executor, tight = FakeExecutor(), 13_500_000
    records = run(store, executor, SearchSettings("random", 24), memory=tight)
    assert 0 < len(records) < 16
    assert {record.status for record in records} == {"ok"}
    whole = run(store, FakeExecutor(), memory=tight)
    assert len(whole) == 16
    assert {record.status for record in whole} == {"ok", "infeasible"}


def test_what_ran_before_is_kept_when_memory_is_short(store: Store) -> None:
    before = run(store, FakeExecutor())
    assert run(store, FakeExecutor(), memory=0) == before


def test_a_budget_of_time_ends_a_study_and_what_is_measured_is_kept() -> None:
    now = [0.0]
    clock = Clock(1.0, lambda: now[0])
    had_time = []
    for _ in range(3):  # each piece takes 20 s: when 40 s are over, the next one may end too late
        had_time.append(clock.has_time)
        now[0] += 20.0
        clock.note(20.0)
    assert had_time == [True, True, False]
    assert Clock(None).has_time


def test_a_study_without_time_measures_nothing_and_says_so(store: Store) -> None:
    executor = FakeExecutor()
    assert run(store, executor, SearchSettings("random", 4, budget_minutes=1e-9)) == []
    assert executor.verbs("bench") == []


def test_a_disturbed_point_is_measured_once_more(store: Store) -> None:
    one = Space("s", points(1)[:1])
    times = chain([1.0] * 5, [2.0], [1.0, 1.0], repeat(1.0))  # before, after; before, after
    executor = FakeExecutor(speeds=[50.0, 90.0])
    (record,) = run(store, executor, what=one, reference=lambda: next(times))
    assert len(executor.verbs("bench")) == 2
    assert record.metrics["decode_tokens_per_s"] == 90.0
    assert record.environment["disturbed"] is False
    assert record.environment["reference"] == [1.0, 1.0]


def test_a_point_that_stays_disturbed_is_marked_and_the_quieter_one_is_kept(store: Store) -> None:
    one = Space("s", points(1)[:1])
    times = chain([1.0] * 5, [1.5], [1.0, 3.0], repeat(1.0))
    executor = FakeExecutor(speeds=[80.0, 40.0])
    (record,) = run(store, executor, what=one, reference=lambda: next(times))
    assert (record.metrics["decode_tokens_per_s"], record.environment["disturbed"]) == (80.0, True)


def test_points_of_other_machines_stay_in_the_study_and_those_of_another_space_do_not(
    store: Store, tmp_path: Path
) -> None:
    executor = FakeExecutor()
    ran = points()[0].flat() | {"prefill_chunk_size": 256}  # a chunk of 512 is no longer than the context
    theirs = replace(executor.bench(points()[0]), parameters=ran, environment={"machine": "another"})
    gone = executor.bench(DesignPoint.from_flat({"page_size": 32}))
    old = replace(executor.bench(points()[1]), reason="by an older kvscape")
    for key, record in (("theirs", theirs), ("gone", gone), ("old", old)):
        store.put(key, record)
    store.set_points("s", [("theirs", None), ("gone", None), ("old", None), ("missing", None)])
    records = run(store, FakeExecutor(), SearchSettings("random", 3))
    assert len(records) == 4 and records[-1] == theirs
    assert store.record("gone") == gone


def test_another_study_on_the_same_store_may_have_measured_it_meanwhile(store: Store) -> None:
    """The second study runs within the first one's first measurement, and has all the rest done."""

    class Overtaken(FakeExecutor):
        def bench(self, point: DesignPoint) -> Record:
            if not self.verbs("bench"):
                run(store, other)
            return super().bench(point)

    first, other = Overtaken(), FakeExecutor()
    records = run(store, first)
    assert len(records) == 16 and {record.status for record in records} == {"ok"}
    assert len(first.verbs("bench")) == 1 and len(other.verbs("bench")) == 16


def test_what_another_study_measured_while_this_one_waited_for_its_turn_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other study has its turn, and finishes, after this one has found its first point missing."""
    first, other = FakeExecutor(), FakeExecutor()

    @contextmanager
    def after_the_other(waits: Callable[[], None]) -> Iterator[None]:
        monkeypatch.setattr("kvscape.study.measuring.turn", turn)
        run(store, other)
        yield

    monkeypatch.setattr("kvscape.study.measuring.turn", after_the_other)
    assert len(run(store, first)) == 16
    assert (len(first.verbs("bench")), len(other.verbs("bench"))) == (0, 16)


def test_a_disk_that_fills_up_ends_the_study_and_the_next_run_finishes_it(store: Store) -> None:
    executor = FakeExecutor()
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ResultsError, match=r"cannot write the store .*: database or disk is full; mend that"):
        run(store, executor)
    kept = len(store.study_records("s"))
    assert 0 < kept < 16
    store._connection.execute("PRAGMA max_page_count = 1000")
    assert len(run(store, executor)) == 16
    assert len(executor.verbs("bench")) in (16, 17)  # that which could not be written came last


def test_quality_is_measured_with_the_first_point_that_has_it(store: Store) -> None:
    executor = FakeExecutor()
    run(store, executor, SearchSettings("random", 5))
    verbs = [verb for verb, _ in executor.asked]
    assert verbs[:3] == ["build", "bench", "ppl"]
    assert executor.asked[1][1] == executor.asked[2][1]
    assert QUALITY.settings.context == 64
