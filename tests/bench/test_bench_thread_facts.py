"""What a record says of the threads is what the system says of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvscape.analysis.cpu import default_threads
from kvscape.bench.thread_facts import bound_cores, thread_facts

linux = pytest.mark.skipif(sys.platform != "linux", reason="where a thread is bound is Linux's to tell")
FREE_AND_BOUND = """
import os, threading
from kvscape.bench.thread_facts import bound_cores

done = threading.Event()
def bound():
    os.sched_setaffinity(0, {max(cores)})
    ready.set()
    done.wait()
cores, ready = os.sched_getaffinity(0), threading.Event()
thread = threading.Thread(target=bound)
before = bound_cores()
thread.start()
ready.wait()
print(before, bound_cores() == ([max(cores)] if len(cores) > 1 else []))
done.set()
"""


@linux
def test_a_bound_thread_is_found() -> None:
    done = subprocess.run([sys.executable, "-c", FREE_AND_BOUND], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"


@linux
def test_a_process_on_one_core_binds_no_thread() -> None:
    code = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    code += "from kvscape.bench.thread_facts import thread_facts; print(thread_facts(None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'threads': 1, 'bound_cores': []}\n"


def test_threads_are_those_asked_for_or_one_for_each_core() -> None:
    assert [thread_facts(asked)["threads"] for asked in (3, None)] == [3, default_threads()]


def test_a_system_that_does_not_tell_has_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kvscape.bench.thread_facts._TASKS", tmp_path / "none")
    assert bound_cores() is None
