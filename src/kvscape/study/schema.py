"""The tables of a store, and how an older file gets them."""

import sqlite3

from kvscape.errors import ResultsError

VERSION = 2
_TABLES = (
    """CREATE TABLE records (
        key TEXT NOT NULL, repeat INTEGER NOT NULL, content TEXT NOT NULL, duration_s REAL, PRIMARY KEY (key, repeat)
    ) WITHOUT ROWID""",
    "CREATE TABLE perplexities (key TEXT PRIMARY KEY, content TEXT NOT NULL, duration_s REAL) WITHOUT ROWID",
    """CREATE TABLE points (
        study TEXT NOT NULL, position INTEGER NOT NULL, speed_key TEXT NOT NULL, quality_key TEXT,
        PRIMARY KEY (study, position), UNIQUE (study, speed_key)
    ) WITHOUT ROWID""",
    "CREATE TABLE builds (key TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
)
# Version 2 keeps each repeat of a point, how long a record took, and what is known of builds.
_FROM_1 = (
    "ALTER TABLE records RENAME TO records_1",
    "ALTER TABLE perplexities RENAME TO perplexities_1",
    _TABLES[0],
    _TABLES[1],
    _TABLES[3],
    "INSERT INTO records SELECT key, 0, content, NULL FROM records_1",
    "INSERT INTO perplexities SELECT key, content, NULL FROM perplexities_1",
    "DROP TABLE records_1",
    "DROP TABLE perplexities_1",
)
_STATEMENTS = {0: _TABLES, 1: _FROM_1, VERSION: ()}


def prepare(connection: sqlite3.Connection, name: str) -> None:
    """Give a new or older file the present tables, in one transaction: killed within it, the file is as it was.

    Raises ResultsError for a file of a newer kvscape.
    """
    if _version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")  # two studies may open one store
    with connection:
        version = _version(connection)
        if version not in _STATEMENTS:
            why = f"its schema has version {version}, this kvscape writes {VERSION}"
            raise ResultsError(f"cannot use the store {name}", why, "update kvscape, or give another file")
        for statement in _STATEMENTS[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
