"""A GPU's memory is taken and given back, and what a command left behind is told; the driver is a made-up one."""

import sys
from pathlib import Path
from typing import Any

import hog
import pytest

from fake_gpu import FakeLibrary, fake_driver
from kvscape.analysis.cuda import Gpus
from pretended_gpu import GPU

FREE_MIB, PIECE_MIB = 5000, 3000
MIB = hog.MIB


class Memory(FakeLibrary):
    """Memory of which no piece is larger than ``PIECE_MIB``; another process takes ``steps``, one at each look."""

    def __init__(self, steps: list[int], sign: Path | None = None) -> None:
        super().__init__(FREE_MIB * MIB)
        self.sign = sign  # is written when memory is taken
        self.sizes: dict[int, int] = {}
        self.steps, self.most_mib = steps, 0

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:  # noqa: N802
        self.free_bytes -= self.steps.pop(0) * MIB if self.steps else 0
        free._obj.value = self.free_bytes

    def _cuMemAlloc_v2(self, place: Any, nbytes: Any) -> int:  # noqa: N802
        if nbytes.value > min(self.free_bytes, PIECE_MIB * MIB):
            return 2
        super()._cuMemAlloc_v2(place, nbytes)
        self.sizes[place._obj.value] = nbytes.value
        self.free_bytes -= nbytes.value
        self.most_mib = max(self.most_mib, sum(self.sizes.values()) // MIB)
        if self.sign:
            self.sign.touch()
        return 0

    def _cuMemFree_v2(self, place: Any) -> None:  # noqa: N802
        super()._cuMemFree_v2(place)
        self.free_bytes += self.sizes.pop(place.value)


def run(monkeypatch: pytest.MonkeyPatch, memory: Memory, code: str, *flags: str) -> int:
    monkeypatch.setattr(hog, "gpus", lambda: Gpus((GPU,)))
    monkeypatch.setattr(hog, "GpuDriver", lambda index: fake_driver(monkeypatch, memory))
    monkeypatch.setattr(sys, "argv", ["hog.py", *flags, "--", sys.executable, "-c", code])
    return hog.main()


def test_little_is_left(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    memory = Memory([])
    code = "raise SystemExit('error: out of memory on cuda:0')"
    assert run(monkeypatch, memory, code, "--free-mib", "300") == 0
    printed = capfd.readouterr().out
    assert "300 of 5,000 MiB are left" in printed and "error: out of memory on cuda:0" in printed
    assert "status 1, 1 lines" in printed and "0 MiB kept" in printed
    assert memory.most_mib == FREE_MIB - 300 and not memory.held and memory.free_bytes == FREE_MIB * MIB


def test_it_goes_once_a_command_has_taken_some(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    memory = Memory([0, 0, 100, 500], tmp_path / "taken")
    code = f"import os\nwhile not os.path.exists({str(memory.sign)!r}): pass\nraise SystemExit('it did not fit')"
    assert run(monkeypatch, memory, code, "--once-taken-mib", "550") == 1  # 600 are kept
    assert "5,000 of 5,000 MiB are left" in capfd.readouterr().out
    assert memory.most_mib == FREE_MIB - 600 - 300 and not memory.held


@pytest.mark.parametrize(("code", "steps"), [("1 / 0", []), ("", [0, 0, 0, 200])])
def test_what_is_left_behind_is_bad(
    code: str, steps: list[int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Memory(steps), code, "--free-mib", "5000") == 1
    assert "BAD" in capfd.readouterr().out
