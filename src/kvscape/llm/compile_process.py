"""Compile in a process of its own: TVM's compiler and its memory stay out of the engine's process."""

import os
import subprocess
import sys
from pathlib import Path

from kvscape.errors import KvscapeError


def compile_in_child(
    artifact: Path,
    target: str,
    activation: str,
    overrides: dict[str, int],
    output: Path,
    kv_dtype: str,
    debug_dump: Path | None = None,
) -> None:
    """Write the library of a converted folder; raise KvscapeError with the child's own line if it fails."""
    command = [sys.executable, "-m", "kvscape.compiler", str(artifact), str(output), target, activation]
    command += ["--overrides", ";".join(f"{name}={value}" for name, value in overrides.items())]
    command += ["--kv-dtype", kv_dtype]
    if debug_dump is not None:
        command += ["--debug-dump", str(debug_dump)]
    environment = {name: value for name, value in os.environ.items() if name != "TVM_USE_RUNTIME_LIB"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 2:
        raise KvscapeError(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"the compiler failed with status {done.returncode}:\n{done.stderr}")
