"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Tests run side by side: no thread shall be bound to a core that another process has, nor spin while that one works.
SHARED_CORES = {"TVM_BIND_THREADS": "0", "TVM_THREAD_POOL_SPIN_COUNT": "0"}

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_kvscape(home: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``python -m kvscape`` with a cache of its own, as a user does: no other setting of TVM goes along."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TVM_")}
    return subprocess.run(
        [sys.executable, "-m", "kvscape", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**environment, **SHARED_CORES, "KVSCAPE_HOME": str(home)},
    )
