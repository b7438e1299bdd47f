"""Becomes the command it is given, and dies with the process that started it. Run as a script, before any import.

Usage: ``python -I -S launcher.py PARENT_PID MEMORY_BYTES COMMAND...``; 0 bytes set no limit.
"""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Ask Linux for SIGKILL when the parent ends; a parent that ended before the request is seen by its number."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(1)


def _be_the_first_to_go() -> None:
    """When memory runs out, the kernel shall end this process and not the study."""
    with suppress(OSError):  # a container may forbid it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _have_at_most(memory_bytes: int) -> None:
    """A program that leaks fails to allocate before the machine is out of memory; mapped files do not count."""
    if memory_bytes:
        with suppress(OSError, ValueError):  # a lower limit is set already
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def main(arguments: list[str]) -> None:
    if sys.platform == "linux":
        _die_with(int(arguments[0]))
        _be_the_first_to_go()
        _have_at_most(int(arguments[1]))
    os.execvp(arguments[2], arguments[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
