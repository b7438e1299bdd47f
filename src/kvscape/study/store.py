"""The one truth of a study: a SQLite file. Each record is one transaction under its content key."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from kvscape.errors import ResultsError
from kvscape.results import PerplexityRecord, Record

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE records (key TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE perplexities (key TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE points (
    study TEXT NOT NULL, position INTEGER NOT NULL, speed_key TEXT NOT NULL, quality_key TEXT,
    PRIMARY KEY (study, position), UNIQUE (study, speed_key)
) WITHOUT ROWID;
"""
_BUSY_S = 60.0


class Store:
    """Records by content key, and which of them belong to which study.

    Write-ahead logging, so a killed writer leaves whole records only, and readers never wait.
    Raises ResultsError when the file is something else or from another schema version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.DatabaseError) as error:
            raise ResultsError(f"cannot open the store {path}", str(error), "give another file") from None

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN IMMEDIATE")  # two studies may create one store
        with self._connection:
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if version not in (0, SCHEMA_VERSION):
            why = f"its schema has version {version}, this kvscape writes {SCHEMA_VERSION}"
            raise ResultsError(f"cannot use the store {self.path}", why, "give another file")

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def record(self, key: str) -> Record | None:
        content = self._content("records", key)
        return Record.from_json(json.loads(content)) if content else None

    def perplexity(self, key: str) -> PerplexityRecord | None:
        content = self._content("perplexities", key)
        return PerplexityRecord.from_json(json.loads(content)) if content else None

    def _content(self, table: str, key: str) -> str | None:
        row = self._connection.execute(f"SELECT content FROM {table} WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def put(self, key: str, record: Record | PerplexityRecord) -> None:
        """Write a record in one transaction; an older one with the same key is replaced."""
        table = "records" if isinstance(record, Record) else "perplexities"
        content = json.dumps(record.to_json())
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, content))

    def set_points(self, study: str, keys: Iterable[tuple[str, str | None]]) -> None:
        """Say which (speed key, quality key) make up a study, in order; its earlier list is replaced."""
        rows = [(study, position, speed, quality) for position, (speed, quality) in enumerate(dict(keys).items())]
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            self._connection.execute("DELETE FROM points WHERE study = ?", (study,))
            self._connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", rows)

    def studies(self) -> list[str]:
        """Names of the studies in this file."""
        return [str(row[0]) for row in self._connection.execute("SELECT DISTINCT study FROM points ORDER BY study")]

    def study_records(self, study: str) -> list[Record]:
        """The finished records of a study in its order, each with the perplexity of its quality."""
        rows = self._connection.execute(
            "SELECT r.content, q.content FROM points p JOIN records r ON r.key = p.speed_key "
            "LEFT JOIN perplexities q ON q.key = p.quality_key WHERE p.study = ? ORDER BY p.position",
            (study,),
        )
        return [_merged(record, quality) for record, quality in rows]

    def study_perplexities(self, study: str) -> list[PerplexityRecord]:
        """The finished perplexities of a study, each once, in the order of its points."""
        rows = self._connection.execute(
            "SELECT q.content FROM points p JOIN perplexities q ON q.key = p.quality_key WHERE p.study = ? "
            "GROUP BY q.key ORDER BY MIN(p.position)",
            (study,),
        )
        return [PerplexityRecord.from_json(json.loads(row[0])) for row in rows]


def _merged(record_json: str, quality_json: str | None) -> Record:
    record = Record.from_json(json.loads(record_json))
    quality = PerplexityRecord.from_json(json.loads(quality_json)) if quality_json else None
    if quality is None or quality.status != "ok" or record.status != "ok":
        return record
    return replace(record, metrics={**record.metrics, "perplexity": quality.perplexity})
