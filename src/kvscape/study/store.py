"""The one truth of a study: a SQLite file. Each record is one transaction under its content key."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kvscape.errors import ResultsError
from kvscape.results import PerplexityRecord, Record
from kvscape.study.merge import Merged, merge
from kvscape.study.model_facts import ModelFacts
from kvscape.study.repeats import joined
from kvscape.study.schema import prepare

_BUSY_S = 60.0

R = TypeVar("R")
Keys = tuple[str, str | None]
"""A point's speed key, and its quality key where perplexity is asked for."""


class Store:
    """Records by content key, and which of them belong to which study.

    Write-ahead logging, so a killed writer leaves whole records only, readers never wait and writers take turns.
    Raises ResultsError when the file is something else, of a newer kvscape, or cannot be written, as on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _opened(path)
        except (OSError, sqlite3.DatabaseError) as error:
            do = "copy its folder to where you may write" if "readonly" in str(error) else "give another file"
            raise ResultsError(f"cannot open the store {path}", str(error), do) from None

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def record(self, key: str) -> Record | None:
        """All repeats of a point in one record."""
        repeats = self.repeats(key)
        return joined(repeats) if repeats else None

    def repeats(self, key: str) -> list[Record]:
        """Each time that a point was measured."""
        rows = self._rows("SELECT content FROM records WHERE key = ? ORDER BY repeat", key)
        return [_record(row[0]) for row in rows]

    def repeat(self, key: str, number: int) -> Record | None:
        rows = self._rows("SELECT content FROM records WHERE key = ? AND repeat = ?", key, number)
        return _record(rows[0][0]) if rows else None

    def perplexity(self, key: str) -> PerplexityRecord | None:
        rows = self._rows("SELECT content FROM perplexities WHERE key = ?", key)
        return _perplexity(rows[0][0]) if rows else None

    def result(self, keys: Keys) -> Record | None:
        """A point's record with the perplexity of its quality."""
        speed, quality = keys
        record, scored = self.record(speed), self.perplexity(quality) if quality else None
        return record and _merged(record, scored)

    def statuses(self) -> dict[str, str]:
        """The status of each key; "ok" where one of its repeats is."""
        rows = self._rows("SELECT key, content FROM records UNION ALL SELECT key, content FROM perplexities")
        found: dict[str, str] = {}
        for key, content in rows:
            status = _read(_status, content)
            found[key] = "ok" if "ok" in (status, found.get(key)) else status
        return found

    def put(
        self, key: str, record: Record | PerplexityRecord, repeat: int = 0, duration_s: float | None = None
    ) -> None:
        """Write a record in one transaction; an older one with the same key and repeat is replaced."""
        content = json.dumps(record.to_json())
        with self._writing():
            if isinstance(record, Record):
                row = (key, repeat, content, duration_s)
                self._connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", row)
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO perplexities VALUES (?, ?, ?)", (key, content, duration_s)
                )

    def replace_all(self, records: Mapping[str, Record]) -> None:
        """Write many records in one transaction, each in the place of all repeats of its key."""
        rows = [(key, json.dumps(record.to_json())) for key, record in records.items()]
        with self._writing():
            self._connection.executemany("DELETE FROM records WHERE key = ?", [(key,) for key, _ in rows])
            self._connection.executemany("INSERT INTO records VALUES (?, 0, ?, NULL)", rows)

    def durations_s(self) -> dict[str, float]:
        """How long each record took, its process's start and end included; by key, the mean over its repeats."""
        return dict(
            self._rows(
                "SELECT key, AVG(duration_s) FROM records WHERE duration_s IS NOT NULL GROUP BY key "
                "UNION ALL SELECT key, duration_s FROM perplexities WHERE duration_s IS NOT NULL"
            )
        )

    def build(self, key: str) -> ModelFacts | None:
        """What was found of a build when it was made last."""
        rows = self._rows("SELECT content FROM builds WHERE key = ?", key)
        return _read(ModelFacts.from_json, rows[0][0]) if rows else None

    def put_build(self, key: str, facts: ModelFacts) -> None:
        with self._writing():
            row = (key, json.dumps(facts.to_json()))
            self._connection.execute("INSERT OR REPLACE INTO builds VALUES (?, ?)", row)

    def set_points(self, study: str, keys: Iterable[Keys]) -> None:
        """Say which (speed key, quality key) make up a study, in order; its earlier list is replaced."""
        rows = [(study, position, speed, quality) for position, (speed, quality) in enumerate(dict(keys).items())]
        with self._writing():
            self._connection.execute("DELETE FROM points WHERE study = ?", (study,))
            self._connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", rows)

    def points(self, study: str) -> list[Keys]:
        """What makes up a study, in order."""
        return self._rows("SELECT speed_key, quality_key FROM points WHERE study = ? ORDER BY position", study)

    def merge(self, path: Path) -> Merged:
        """Take over what another store has and this one lacks; the other file is only read."""
        with self._writing():
            return merge(self._connection, path)

    def studies(self) -> list[str]:
        """Names of the studies in this file."""
        return [str(row[0]) for row in self._rows("SELECT DISTINCT study FROM points ORDER BY study")]

    def study_records(self, study: str) -> list[Record]:
        """The finished records of a study in its order, each with the perplexity of its quality."""
        rows = self._rows(
            "SELECT p.position, r.content, q.content FROM points p JOIN records r ON r.key = p.speed_key "
            "LEFT JOIN perplexities q ON q.key = p.quality_key WHERE p.study = ? ORDER BY p.position, r.repeat",
            study,
        )
        points = [list(repeats) for _, repeats in groupby(rows, itemgetter(0))]
        return [_merged(joined([_record(row[1]) for row in rows]), _perplexity(rows[0][2])) for rows in points]

    def study_perplexities(self, study: str) -> list[PerplexityRecord]:
        """The finished perplexities of a study, each once, in the order of its points."""
        rows = self._rows(
            "SELECT q.content FROM points p JOIN perplexities q ON q.key = p.quality_key WHERE p.study = ? "
            "GROUP BY q.key ORDER BY MIN(p.position)",
            study,
        )
        return [_read(PerplexityRecord.from_json, row[0]) for row in rows]

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        """What a query finds; raise ResultsError for a file that is damaged."""
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            do = "take a copy of it, or study into another folder"
            raise ResultsError(f"cannot read the store {self.path}", str(error), do) from None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it is on the disk, or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield
        except sqlite3.Error as error:
            do = "mend that and run the command again: what is in the store is kept"
            raise ResultsError(f"cannot write the store {self.path}", str(error), do) from None


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        _log_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        prepare(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging; where two processes do so at once, SQLite fails one without waiting."""
    deadline_s = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _record(content: str) -> Record:
    return _read(Record.from_json, content)


def _perplexity(content: str | None) -> PerplexityRecord | None:
    return _read(PerplexityRecord.from_json, content) if content else None


def _read(kind: Callable[[dict[str, Any]], R], content: str) -> R:
    """Raise ResultsError for a record with fields that this version does not know, and for one that is damaged."""
    try:
        return kind(json.loads(content))
    except TypeError as error:
        raise ResultsError("a record cannot be read", f"a newer kvscape wrote it: {error}", "update kvscape") from None
    except (ValueError, LookupError, AttributeError) as error:
        why = f"the store is damaged: {error}"
        raise ResultsError("a record cannot be read", why, "study into another folder") from None


def _status(content: dict[str, Any]) -> str:
    return str(content["status"])


def _merged(record: Record, quality: PerplexityRecord | None) -> Record:
    if quality is None or quality.status != "ok" or record.status != "ok":
        return record
    return replace(record, metrics={**record.metrics, "perplexity": quality.perplexity})
