"""On how many threads a measurement ran, and where they were bound."""

import os
from pathlib import Path
from typing import Any

from kvscape.analysis.cpu import default_threads

_TASKS = Path("/proc/self/task")


def thread_facts(asked: int | None) -> dict[str, Any]:
    """``threads``, and the ``bound_cores`` of this process as it is now: ask while its thread pool lives."""
    return {"threads": asked or default_threads(), "bound_cores": bound_cores()}


def bound_cores() -> list[int] | None:
    """Cores that a single thread is bound to, though the process may use more; None where the system does not tell.

    TVM binds each worker of its pool to a core of its own, and leaves the thread that calls it free.
    """
    if not _TASKS.is_dir():
        return None
    masks = [mask for task in _TASKS.iterdir() if (mask := _mask(int(task.name)))]
    usable = set().union(*masks)
    return sorted(core for mask in masks if len(mask) == 1 < len(usable) for core in mask)


def _mask(thread: int) -> set[int]:
    try:
        return os.sched_getaffinity(thread)
    except ProcessLookupError:  # it has just ended
        return set()
