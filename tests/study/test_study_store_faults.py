"""Two processes that write, and a disk that is full."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kvscape.errors import ResultsError
from kvscape.study import Store
from made_records import made_records

RECORD = made_records()[0]
WRITER = """
import sys
from contextlib import closing
from pathlib import Path
from kvscape.study import Store
from made_records import made_records

record, own = made_records()[0], sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
with Store(Path(sys.argv[1])) as store:
    for number in range(30):
        store.put(f"{own}-{number}", record)
        store.put("shared", record, repeat=number)
        store.set_points(own, [(f"{own}-{n}", None) for n in range(number + 1)])
"""


def started(store: Path, own: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store), own], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_two_processes_that_write_at_once_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    with started(tmp_path / "study.sqlite", "one") as one, started(tmp_path / "study.sqlite", "two") as two:
        for writer in (one, two):  # both open a file that is not there yet
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
    assert (one.returncode, two.returncode) == (0, 0)
    with Store(tmp_path / "study.sqlite") as store:
        assert len(store.repeats("shared")) == 30
        for own in ("one", "two"):
            assert store.points(own) == [(f"{own}-{number}", None) for number in range(30)]
            assert len(store.study_records(own)) == 30


def test_a_store_is_opened_while_another_process_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None)) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN IMMEDIATE")  # SQLite fails a change of the log's mode at once, whatever the timeout
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr("kvscape.study.store.time.sleep", wait)
        with Store(tmp_path / "study.sqlite") as store:
            store.put("one", RECORD)
            assert store.record("one") == RECORD
        assert len(waits) == 1


def fill(store: Store) -> int:
    """Write until the disk is full; return how many records were written."""
    number = 0
    while True:
        try:
            store.put(str(number), RECORD)
        except ResultsError as error:
            assert "disk is full" in str(error) and "what is in the store is kept" in str(error)
            return number
        number += 1
        assert number < 10_000


def test_a_store_that_cannot_grow_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Store(tmp_path / "study.sqlite") as store:
        store._connection.execute("PRAGMA max_page_count = 40")
        written = fill(store)
        assert written > 10
        store._connection.execute("PRAGMA max_page_count = 1000")
        store.put("later", RECORD)
        assert store.record("later") == RECORD
    with Store(tmp_path / "study.sqlite") as store:
        assert [store.record(str(number)) for number in range(written + 1)] == [*[RECORD] * written, None]


ON_A_SMALL_DISK = """
import sys
from contextlib import closing
from pathlib import Path
from test_study_store_faults import RECORD, fill
from kvscape.study import Store

disk = Path(sys.argv[1])
with Store(disk / "study.sqlite") as store:
    written = fill(store)
(disk / "ballast").unlink()
with Store(disk / "study.sqlite") as store:
    assert [store.record(str(number)) for number in range(written)] == [RECORD] * written
    assert store.record(str(written)) is None
    store.put("later", RECORD)
    assert store.record("later") == RECORD
print(written)
"""
MOUNT = 'mount -t tmpfs -o size=512k tmpfs "$1" && head -c 150000 /dev/zero > "$1/ballast" && exec "$2" -c "$3" "$1"'


def may_mount() -> bool:
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="a small disk needs a mount; the test above fills a store without one")
def test_a_full_disk_loses_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join([str(Path(__file__).parent), *sys.path]))
    command = ["unshare", "-rm", "sh", "-ec", MOUNT, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_a_locked_store_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.study.store._BUSY_S", 0.01)
    with Store(tmp_path / "study.sqlite") as store:
        blocker = sqlite3.connect(store.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(ResultsError, match=r"cannot write the store .*: database is locked"):
            store.put("a", RECORD)
        blocker.close()
        store.put("a", RECORD)
