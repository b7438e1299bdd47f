import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvscape.errors import ResultsError
from kvscape.results import PerplexityRecord, Record
from kvscape.study import Store

RECORD = Record({"model": "m", "quantization": "auto"}, {"total_bytes": 1.0}, {}, {"ttft_s": [0.1]}, {}, kernels=("k",))
QUALITY = PerplexityRecord({"model": "m"}, 28.5, 0.5, 3.3, 100, "windows", 512, "text", "sha")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "new folder" / "study.db") as opened:
        yield opened


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


def sample(*rates: float, **environment: object) -> Record:
    names = ("ttft_s", "tpot_s", "e2e_s", "itl_s", "prefill_tokens_per_s", "decode_tokens_per_s", "chars_per_s")
    samples = {name: list(rates) for name in names}
    metrics = {"total_bytes": 5.0, "decode_tokens_per_s": float(np.median(rates))}
    return replace(RECORD, samples=samples, metrics=metrics, environment=environment)


def test_repeats_of_a_point_are_one_record_of_all_samples(store: Store) -> None:
    for number, rates in enumerate(((10.0, 12.0), (20.0, 22.0), (11.0, 13.0))):
        store.put("a", sample(*rates), repeat=number)
    store.set_points("s", [("a", None)])
    (record,) = store.study_records("s")
    assert record == store.record("a")
    assert record.samples["decode_tokens_per_s"] == [10.0, 12.0, 20.0, 22.0, 11.0, 13.0]
    assert (record.metrics["decode_tokens_per_s"], record.metrics["total_bytes"]) == (12.5, 5.0)
    low, high = record.intervals["decode_tokens_per_s"]
    assert 10 <= low < 12.5 < high <= 22
    assert record.environment["repeats"] == 3


def test_repeats_that_failed_or_were_disturbed_count_only_alone(store: Store) -> None:
    store.put("a", sample(30.0, disturbed=True), repeat=0)
    assert store.repeats("a") == [store.record("a")]
    store.put("a", sample(10.0), repeat=1)
    store.put("a", replace(RECORD, samples={}, status="failed"), repeat=2)
    assert store.record("a") == sample(10.0)


def test_many_records_replace_all_repeats_of_their_keys(store: Store) -> None:
    store.put("a", RECORD)
    store.put("a", RECORD, repeat=1)
    refused = replace(RECORD, status="infeasible", metrics={})
    store.replace_all({"a": refused, "b": refused})
    assert (store.repeats("a"), store.repeats("b")) == ([refused], [refused])


def test_durations_are_kept_for_estimates(store: Store) -> None:
    store.put("a", RECORD, 0, 2.0)
    store.put("a", RECORD, 1, 4.0)
    store.put("b", RECORD)
    store.put("q", QUALITY, duration_s=9.0)
    assert store.durations_s() == {"a": 3.0, "q": 9.0}


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
    with pytest.raises(ResultsError, match="its schema has version 99, this kvscape writes 2; update kvscape"):
        Store(store.path)


def test_a_record_of_a_newer_version_is_one_clear_line(store: Store) -> None:
    store.put("a", RECORD)
    connection = sqlite3.connect(store.path)
    connection.execute("UPDATE records SET content = json_set(content, '$.invented_later', 1)")
    connection.commit()
    connection.close()
    with pytest.raises(ResultsError, match=r"a newer kvscape wrote it: .*invented_later"):
        store.record("a")


def test_a_damaged_store_is_one_clear_line(store: Store) -> None:
    for number in range(100):
        store.put(str(number), RECORD)
    store.set_points("s", [(str(number), None) for number in range(100)])
    store.close()
    content = store.path.read_bytes()
    store.path.write_bytes(content[:8192] + bytes(len(content) - 8192))
    with Store(store.path) as damaged, pytest.raises(ResultsError, match=r"cannot read the store .*malformed"):
        damaged.study_records("s")


@pytest.mark.parametrize("content", ['{"parameters": {', "[]", '{"status": "ok"}'])
def test_a_damaged_record_is_one_clear_line(store: Store, content: str) -> None:
    store.put("a", RECORD)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE records SET content = ?", (content,))
    with pytest.raises(ResultsError, match="a record cannot be read"):
        store.record("a")


def test_a_store_that_may_not_be_written_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("CREATE TABLE other (x)")

    monkeypatch.setattr("kvscape.study.store._log_ahead", refuse)
    with pytest.raises(ResultsError, match="attempt to write a readonly database; copy its folder"):
        Store(tmp_path / "study.sqlite")


def test_a_file_that_is_no_store_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("this is not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(ResultsError, match="cannot open the store"):
        Store(path)
    with pytest.raises(ResultsError, match="cannot open the store"):
        Store(path / "below a file.db")
