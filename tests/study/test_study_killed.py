"""A study that is killed at any moment is finished by running it again."""

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fake_kvscape import BLOCKED

from kvscape.study import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children end with their parent on Linux")

RUNNER = Path(__file__).with_name("run_fake_study.py")
CONTEXTS = [256, 512, 1024, 2048]
STUDY = """
name = "killed"
[base]
model = "tiny"
prompt_tokens = 8
max_tokens = 8
[ppl]
context = 64
"""
POINT = """
[[points]]
context_window_size = {context}
seed = {seed}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSCAPE_HOME", str(tmp_path / "home"))


class Runs:
    """A study in a folder; its point number ``blocked`` waits for as long as the pipe is there."""

    def __init__(self, folder: Path, blocked: int) -> None:
        folder.mkdir(exist_ok=True)
        self.study, self.store = folder / "study.toml", folder / "study.db"
        self.log, self.pipe = folder / "log", folder / "pipe"
        points = (POINT.format(context=size, seed=BLOCKED * (n == blocked)) for n, size in enumerate(CONTEXTS))
        self.study.write_text(STUDY + "".join(points))
        os.mkfifo(self.pipe)

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "FAKE_LOG": str(self.log), "FAKE_PIPE": str(self.pipe)}
        command = [sys.executable, str(RUNNER), str(self.study), str(self.store)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    def kill_while_blocked(self) -> int:
        """Kill the runner while a child works; return a handle that becomes readable when that child ends."""
        with self.start() as runner:
            child = os.pidfd_open(int(self.pipe.read_text()))
            runner.kill()
        self.pipe.unlink()
        return child

    def finish(self) -> None:
        with self.start() as runner:
            assert runner.wait() == 0

    def measured(self) -> list[int]:
        return [int(entry["context_window_size"]) for entry in self.entries() if entry["verb"] == "bench"]

    def entries(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.mark.parametrize("blocked", [0, 2, 3])
def test_killed_and_run_again_it_has_every_point_once(tmp_path: Path, blocked: int) -> None:
    runs = Runs(tmp_path, blocked)
    runs.kill_while_blocked()
    runs.finish()
    with Store(runs.store) as store:
        records = store.study_records("killed")
        assert [record.parameters["context_window_size"] for record in records] == CONTEXTS
        assert {record.status for record in records} == {"ok"}
        assert {record.metrics["perplexity"] for record in records} == {28.0}
        assert len(store.study_perplexities("killed")) == 1
    # Only the interrupted point was measured twice.
    assert Counter(runs.measured()) == {size: 2 if size == CONTEXTS[blocked] else 1 for size in CONTEXTS}


def test_two_studies_on_one_store_at_once_measure_each_point_once(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 2)
    with runs.start() as first:
        runs.pipe.read_text()  # its third point, in whatever order, is being measured
        with runs.start() as second:
            assert second.stdout is not None and second.stdout.readline() == b"waits\n"
            runs.pipe.unlink()
            first.kill()  # and the second one goes on alone
            assert second.wait() == 0
    with Store(runs.store) as store:
        assert [record.status for record in store.study_records("killed")] == ["ok"] * len(CONTEXTS)
    assert Counter(runs.measured()) == {size: 2 if size == CONTEXTS[2] else 1 for size in CONTEXTS}


def test_two_studies_that_start_together_share_the_work(tmp_path: Path) -> None:
    runs = Runs(tmp_path, -1)
    runs.pipe.unlink()
    with runs.start() as first, runs.start() as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert sorted(runs.measured()) == CONTEXTS
    with Store(runs.store) as store:
        assert len(store.study_records("killed")) == len(CONTEXTS)
        assert len(store.study_perplexities("killed")) == 1


def test_a_finished_study_measures_nothing_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 0)
    runs.pipe.unlink()
    runs.finish()
    runs.finish()
    assert sorted(runs.measured()) == CONTEXTS


def test_no_child_outlives_its_killed_study(tmp_path: Path) -> None:
    child = Runs(tmp_path, 1).kill_while_blocked()
    ended, _, _ = select.select([child], [], [], 60)
    assert ended == [child]


def test_an_interrupted_study_ends_its_child_at_once(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 1)
    with runs.start() as runner:
        child = os.pidfd_open(int(runs.pipe.read_text()))
        runner.send_signal(signal.SIGINT)
        assert runner.wait() != 0
    assert select.select([child], [], [], 60)[0] == [child]


def test_a_second_study_builds_and_measures_only_when_the_first_does_not(tmp_path: Path) -> None:
    first, second = Runs(tmp_path / "first", 1), Runs(tmp_path / "second", -1)
    with first.start() as holder:
        first.pipe.read_text()  # its second point is being measured
        with second.start() as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == b"waits\n"
            assert [entry["verb"] for entry in second.entries()] == ["compile"]
            holder.kill()
            assert (waiter.stdout.read(), waiter.wait()) == (b"", 0)
    assert sorted(second.measured()) == CONTEXTS
