"""The most memory this process has had resident."""

import resource
import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """Peak resident set of this program.

    Linux's ``ru_maxrss`` starts with the parent's size where a process was forked from a larger one;
    ``VmHWM`` begins anew with the program, so it is preferred.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
