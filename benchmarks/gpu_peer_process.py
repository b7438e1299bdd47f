"""``gpu_peer.py`` in a process of its own, by a Python that has PyTorch: it is asked line by line, and may fail."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

SCRIPT = Path(__file__).with_name("gpu_peer.py")


class PeerError(Exception):
    """There is no more answer; the message says why."""


class PeerProcess:
    """One kind of weights and one batch, from when it has compiled until it is closed."""

    def __init__(self, python: str, weights: str, batch: int) -> None:
        self.name = f"{weights} {batch}"
        self._errors: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        # What this process imports from elsewhere is of another Python.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(SCRIPT), weights, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait(self, patience_s: float) -> float:
        """Seconds that it took to compile; raise PeerError where it takes longer than ``patience_s``."""
        return float(self._answer(time.monotonic() + patience_s)["ready_s"])

    def ask(self, line: str = "measure", patience_s: float = 60.0) -> dict[str, float]:
        assert self._process.stdin is not None
        try:
            print(line, file=self._process.stdin, flush=True)
        except OSError:
            raise PeerError(self._ended()) from None
        return self._answer(time.monotonic() + patience_s)

    def _answer(self, end: float) -> dict[str, Any]:
        """The next line that is a JSON object: libraries print, too."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise PeerError(f"PyTorch's {self.name} does not answer in time") from None
            if line is None:
                raise PeerError(self._ended())
            if line.startswith("{"):
                return dict(json.loads(line))

    def _ended(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        last = next((line.strip() for line in reversed(self._errors.readlines()) if line.strip()), "")
        return f"PyTorch's {self.name} ended with status {status}: {last}"

    def close(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
