import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from kvscape.errors import ResultsError
from kvscape.results import PerplexityRecord, Record
from kvscape.study import Store

RECORD = Record({"model": "m", "quantization": "auto"}, {"total_bytes": 1.0}, {}, {"ttft_s": [0.1]}, {}, kernels=("k",))
QUALITY = PerplexityRecord({"model": "m"}, 28.5, 0.5, 3.3, 100, "windows", 512, "text", "sha")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "new folder" / "study.db")


def test_what_is_put_is_found_again_in_another_process(store: Store) -> None:
    store.put("a", RECORD)
    store.put("b", QUALITY)
    with Store(store.path) as other:
        assert (other.record("a"), other.perplexity("b")) == (RECORD, QUALITY)
        assert (other.record("b"), other.perplexity("a")) == (None, None)


def test_a_key_is_there_once(store: Store) -> None:
    store.set_points("s", [("a", None)])
    store.put("a", replace(RECORD, status="failed"))
    store.put("a", RECORD)
    assert store.study_records("s") == [RECORD]


def test_a_study_has_its_own_records_in_its_own_order(store: Store) -> None:
    for key in ("a", "b", "c", "d"):
        store.put(key, replace(RECORD, reason=key))
    store.set_points("one", [("c", None), ("a", None), ("missing", None), ("c", None)])
    store.set_points("two", [("a", None), ("d", None)])
    assert [record.reason for record in store.study_records("one")] == ["c", "a"]
    assert [record.reason for record in store.study_records("two")] == ["a", "d"]
    assert store.studies() == ["one", "two"]
    store.set_points("one", [("b", None)])
    assert [record.reason for record in store.study_records("one")] == ["b"]


def test_a_perplexity_is_merged_into_every_record_of_its_quality(store: Store) -> None:
    store.put("a", RECORD)
    store.put("b", RECORD)
    store.put("q", QUALITY)
    store.set_points("s", [("a", "q"), ("b", "q")])
    assert [record.metrics["perplexity"] for record in store.study_records("s")] == [28.5, 28.5]
    assert store.study_perplexities("s") == [QUALITY]
    assert store.record("a") == RECORD


@pytest.mark.parametrize(("record", "quality"), [("failed", "ok"), ("ok", "failed")])
def test_what_failed_gets_no_perplexity(store: Store, record: str, quality: str) -> None:
    store.put("a", replace(RECORD, status=record))
    store.put("q", replace(QUALITY, status=quality))
    store.set_points("s", [("a", "q")])
    assert "perplexity" not in store.study_records("s")[0].metrics


def test_two_writers_wait_for_each_other(store: Store) -> None:
    with Store(store.path) as other:
        for number in range(20):
            (store if number % 2 else other).put(str(number), RECORD)
        other.set_points("s", [(str(number), None) for number in range(20)])
    assert len(store.study_records("s")) == 20


def test_another_schema_version_is_refused(store: Store) -> None:
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ResultsError, match="its schema has version 99, this kvscape writes 1"):
        Store(store.path)


def test_a_file_that_is_no_store_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("this is not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(ResultsError, match="cannot open the store"):
        Store(path)
    with pytest.raises(ResultsError, match="cannot open the store"):
        Store(path / "below a file.db")
