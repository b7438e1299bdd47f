"""Stores of other machines and of older versions."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.errors import ResultsError
from kvscape.results import PerplexityRecord, Record
from kvscape.study import Store
from kvscape.study.merge import Merged
from made_records import made_perplexities, made_records

FIRST_VERSION = Path(__file__).with_name("fixtures") / "store_v1.sqlite"
ONE, TWO, *_ = made_records()
QUALITY = made_perplexities()[0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "ours.sqlite") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "theirs.sqlite") as opened:
        yield opened


def old(folder: Path) -> Path:
    return Path(shutil.copy(FIRST_VERSION, folder / "old.sqlite"))


def first_version(table: str) -> dict[str, str]:
    """Every content of the old file by its key, as it was written then."""
    with closing(sqlite3.connect(f"file:{FIRST_VERSION}?mode=ro", uri=True)) as connection:
        return dict(connection.execute(f"SELECT key, content FROM {table}"))


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_file_of_the_first_version_loses_nothing(tmp_path: Path) -> None:
    path = old(tmp_path)
    records = {key: Record.from_json(json.loads(content)) for key, content in first_version("records").items()}
    qualities = first_version("perplexities")
    assert version(path) == 1 and len(records) == 3 and len(qualities) == 1
    for _ in range(2):  # the second time there is nothing to do
        with Store(path) as store:
            assert {key: store.record(key) for key in records} == records
            assert store.perplexity("quality-0") == PerplexityRecord.from_json(json.loads(qualities["quality-0"]))
            assert store.points("first") == [("speed-0", "quality-0"), ("speed-1", None)]
            assert [record.status for record in store.study_records("second")] == ["ok", "infeasible"]
            store.put("another", ONE, repeat=1)
    assert version(path) == 2


def test_a_migration_that_ends_in_the_middle_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvscape.study import schema

    path = old(tmp_path)
    broken = {**schema._STATEMENTS, 1: (*schema._FROM_1, "INSERT INTO no_table VALUES (1)")}
    monkeypatch.setattr(schema, "_STATEMENTS", broken)
    with pytest.raises(ResultsError, match="no such table: no_table"):
        Store(path)
    monkeypatch.undo()
    assert version(path) == 1
    with Store(path) as store:
        assert store.points("second") == [("speed-1", "quality-0"), ("speed-16", None)]


def test_another_machines_records_come_in_and_ours_stay(store: Store, other: Store) -> None:
    store.put("both", ONE)
    store.set_points("s", [("both", None)])
    other.put("both", replace(ONE, reason="theirs"))
    other.put("both", ONE, repeat=1)
    other.put("new", TWO)
    other.put("q", QUALITY)
    other.set_points("s", [("new", "q"), ("both", "q")])
    other.set_points("t", [("new", "q")])
    assert store.merge(other.path) == Merged(records=2, perplexities=1, points=2)
    assert store.points("s") == [("both", None), ("new", "q")]
    assert store.points("t") == [("new", "q")]
    assert store.repeats("both") == [ONE, ONE]
    assert store.merge(other.path) == Merged(0, 0, 0)


def test_what_failed_here_and_ran_there_is_taken_over(store: Store, other: Store) -> None:
    failed = replace(ONE, status="failed", metrics={})
    store.put("a", failed)
    store.put("b", TWO)
    other.put("a", ONE)
    other.put("b", failed)
    assert store.merge(other.path).records == 1
    assert (store.record("a"), store.record("b")) == (ONE, TWO)


def test_an_older_file_is_merged_and_left_as_it_is(store: Store, tmp_path: Path) -> None:
    path = old(tmp_path)
    content = path.read_bytes()
    assert store.merge(path).records == 3
    assert store.record("speed-1") is not None
    assert path.read_bytes() == content


def test_what_is_no_store_is_one_clear_line(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(ResultsError, match=r"cannot merge .*text: file is not a database"):
        store.merge(tmp_path / "text")
    with pytest.raises(ResultsError, match="unable to open"):
        store.merge(tmp_path / "missing")
    with closing(sqlite3.connect(tmp_path / "empty")) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(ResultsError, match="it is no store of a study"):
        store.merge(tmp_path / "empty")
    with Store(tmp_path / "damaged") as other:
        for number in range(100):
            other.put(str(number), ONE)
    content = (tmp_path / "damaged").read_bytes()
    (tmp_path / "damaged").write_bytes(content[:8192] + bytes(len(content) - 8192))
    with pytest.raises(ResultsError, match=r"cannot merge .*damaged"):
        store.merge(tmp_path / "damaged")
    store.put("still", ONE)
    assert store.record("still") == ONE
