"""Calibrate in a process of its own: its threads, its compiler and its memory stay out of the engine's process."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kvscape.config import BuildConfig
from kvscape.errors import KvscapeError
from kvscape.hub import Progress


def calibrate_in_child(
    build: BuildConfig, model: str, nbytes: int, folder: Path, work: Path, writer: Path | None, progress: Progress
) -> None:
    """Write the artefact ``folder`` of ``model``, whose files have ``nbytes``; raise KvscapeError with its line.

    ``writer`` is the artefact of the model that writes the text, if one does. Killed, the next one goes on in ``work``.
    """
    arguments = [model, folder, work, build.quantization, build.embedding_quantization or "", build.calibrate]
    command = [sys.executable, "-m", "kvscape.calibration", *map(str, arguments), *([str(writer)] if writer else [])]
    environment = {name: value for name, value in os.environ.items() if name != "TVM_USE_RUNTIME_LIB"}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            what, done, total = json.loads(line)
            progress(what, nbytes * done // total, nbytes)
        child.wait()
        errors.seek(0)
        said = errors.read().strip()
    if child.returncode == 2:
        raise KvscapeError(said.splitlines()[-1])
    if child.returncode != 0:
        raise RuntimeError(f"the calibration failed with status {child.returncode}:\n{said}")
