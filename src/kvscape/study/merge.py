"""What one store takes over from another, as from another machine's."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kvscape.errors import ResultsError
from kvscape.study.schema import prepare


@dataclass(frozen=True)
class Merged:
    """How much was new."""

    records: int
    perplexities: int
    points: int


def merge(into: sqlite3.Connection, path: Path) -> Merged:
    """Copy rows into a connection that is within a transaction.

    Keys hold the machine and all else that a record depends on, so equal keys are equal measurements: what is there
    stays, unless it failed there and not here. Raises ResultsError when ``path`` is no store.
    """
    with closing(_opened(path)) as other:
        records = _take(into, other, "records", ("key", "repeat"))
        perplexities = _take(into, other, "perplexities", ("key",))
        for row in other.execute("SELECT * FROM builds"):
            into.execute("INSERT OR IGNORE INTO builds VALUES (?, ?)", row)
        return Merged(records, perplexities, _take_points(into, other))


def check_store(path: Path) -> None:
    """Raise ResultsError when ``path`` is no store that can be merged."""
    _opened(path).close()


def _opened(path: Path) -> sqlite3.Connection:
    """A copy in memory, with the present tables: the file may be older, and may be read only."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            file.backup(copy)
        if (damage := copy.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(damage)
        if not copy.execute("PRAGMA user_version").fetchone()[0]:
            raise ResultsError(f"cannot merge {path}", "it is no store of a study", "give a study.sqlite")
        prepare(copy, str(path))
    except sqlite3.DatabaseError as error:
        copy.close()
        raise ResultsError(f"cannot merge {path}", str(error), "give a study.sqlite") from None
    except ResultsError:
        copy.close()
        raise
    return copy


def _take(into: sqlite3.Connection, other: sqlite3.Connection, table: str, key: tuple[str, ...]) -> int:
    taken = 0
    where = " AND ".join(f"{name} = ?" for name in key)
    for row in other.execute(f"SELECT * FROM {table}"):
        found = into.execute(f"SELECT content FROM {table} WHERE {where}", row[: len(key)]).fetchone()
        if found is None or (_status(found[0]) != "ok" and _status(row[len(key)]) == "ok"):
            into.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            taken += 1
    return taken


def _status(content: str) -> str:
    return str(json.loads(content)["status"])


def _take_points(into: sqlite3.Connection, other: sqlite3.Connection) -> int:
    """Points of a study of the same name follow those that it has already."""
    taken = 0
    for study, speed, quality in other.execute(
        "SELECT study, speed_key, quality_key FROM points ORDER BY study, position"
    ):
        (end,) = into.execute("SELECT COALESCE(MAX(position) + 1, 0) FROM points WHERE study = ?", (study,)).fetchone()
        done = into.execute("INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?)", (study, end, speed, quality))
        taken += done.rowcount
    return taken
