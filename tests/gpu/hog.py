"""A command on a GPU that has little memory left: ``hog.py [--free-mib N] [--once-taken-mib M] -- COMMAND...``.

Takes a GPU's memory but N MiB, runs the command, and says how it ended, in how many lines, and whether it gave back
what it had taken. With ``--once-taken-mib`` the memory is there when the command begins and goes when it has taken so
much: so a study's point is found feasible, and then does not fit. The status is 1 where the command left a traceback.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from kvscape.analysis.cuda import gpus
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.errors import DeviceError

MIB = 1 << 20
_LEAST_BYTES, _EACH_S, _SETTLED_MIB = MIB, 0.002, 64


class Hog:
    """Memory that is taken of one GPU."""

    def __init__(self, index: int, free_mib: int) -> None:
        self._driver, self._leave = GpuDriver(index), free_mib * MIB
        self._held: list[ctypes.c_void_p] = []

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def take(self) -> None:
        """All but what shall be left, in pieces as large as there are."""
        while (wanted := self.free_bytes() - self._leave) >= _LEAST_BYTES:
            while wanted >= _LEAST_BYTES:
                try:
                    self._held.append(self._driver.allocated(wanted // MIB * MIB))
                    break
                except DeviceError:
                    wanted //= 2
            else:
                return

    def give(self) -> None:
        self._driver.free(*self._held)
        self._held.clear()


def run(hog: Hog, command: Sequence[str], once_taken_mib: int | None) -> int:
    before = hog.free_bytes()
    if once_taken_mib is None:
        hog.take()
    print(f"{hog.free_bytes() / MIB:,.0f} of {before / MIB:,.0f} MiB are left", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(command, stderr=errors) as process:
        while process.poll() is None:
            if once_taken_mib is not None and before - hog.free_bytes() >= once_taken_mib * MIB:
                hog.take()
            time.sleep(_EACH_S)
        errors.seek(0)
        said = errors.read()
    hog.give()
    return told(process.returncode, said, (before - hog.free_bytes()) / MIB, time.monotonic() - start)


def told(status: int, said: str, kept_mib: float, seconds: float) -> int:
    lines = said.strip().splitlines()
    print(*lines[-3:], sep="\n")
    is_bad = "Traceback" in said or kept_mib > _SETTLED_MIB
    print(
        f"status {status}, {len(lines)} lines, {seconds:.1f} s, {kept_mib:.0f} MiB kept{'  BAD' * is_bad}", flush=True
    )
    return int(is_bad)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command on a GPU that has little memory left.")
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--free-mib", type=int, default=300)
    parser.add_argument("--once-taken-mib", type=int)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    if gpus().obstacle:
        sys.exit(f"error: {gpus().obstacle}")
    return run(Hog(asked.gpu, asked.free_mib), asked.command, asked.once_taken_mib)


if __name__ == "__main__":
    sys.exit(main())
