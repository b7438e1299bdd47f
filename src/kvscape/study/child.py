"""One command in a process of its own: it can crash, hang or run out of memory, and only it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LAUNCHER = Path(__file__).with_name("launcher.py")
# Python's, C++'s, the system's, and a GPU's as kvscape and as torch say it.
_NO_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory", "can't start new thread", "out of memory")

Failure = Literal["failed", "timeout", "out_of_memory"]


@dataclass(frozen=True)
class Outcome:
    """What a child printed; ``status`` is "ok" or why it has no result."""

    status: Literal["ok"] | Failure
    stdout: str = ""
    reason: str = ""


def run_child(command: Sequence[str], timeout_s: float, memory_bytes: int = 0) -> Outcome:
    """Run a command to its end, or to the end of its time; every exception here ends the child as well.

    On Linux it gets at most ``memory_bytes``, where that is not 0.
    """
    started = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(memory_bytes), *command]
    with subprocess.Popen(
        started,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return Outcome("timeout", reason=f"no result after {timeout_s:g} s")
        finally:
            _end_group(process.pid)
    return _judge(process.returncode, stdout, stderr)


def _end_group(group: int) -> None:
    """End the child and whatever it started: it leads a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _judge(code: int, stdout: str, stderr: str) -> Outcome:
    if code == 0:
        return Outcome("ok", stdout)
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
    if code == -signal.SIGKILL:
        return Outcome("out_of_memory", reason="ended by SIGKILL, as the kernel does when memory runs out")
    if any(sign in stderr for sign in _NO_MEMORY):
        return Outcome("out_of_memory", reason=last)
    if code < 0:
        return Outcome("failed", reason=f"ended by {signal.Signals(-code).name}" + (f": {last}" if last else ""))
    return Outcome("failed", reason=last or f"ended with status {code}")
