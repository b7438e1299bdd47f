"""Runs a study of fake points in a process that a test can kill. Usage: STUDY_FILE STORE"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from kvscape.results import Record
from kvscape.study import ProcessExecutor, Store, Study, read_space

FAKE = Path(__file__).with_name("fake_kvscape.py")


class Silent:
    """No progress to see, but for the waiting."""

    def start(self, total: int) -> None: ...

    def prune(self, points: int) -> None: ...

    def begin(self, label: str) -> None: ...

    def wait(self) -> None:
        print("waits", flush=True)

    def end(self, status: str, reason: str) -> None: ...

    def show(self, front: Sequence[Record]) -> None: ...


def at_rest() -> float:
    """The reference of a machine that nothing disturbs."""
    return 1.0


def fake_command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, str(FAKE), *arguments]


def main(study: str, store: str) -> None:
    with Store(Path(store)) as opened:
        space = read_space(Path(study))
        executor = ProcessExecutor(timeout_s=600, command=fake_command)
        Study(space, opened, executor, Silent(), available_bytes=lambda device: 10**12, reference=at_rest).run()


if __name__ == "__main__":
    # Where the tests run behind a script's "&", SIGINT is ignored, and so it would be here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
