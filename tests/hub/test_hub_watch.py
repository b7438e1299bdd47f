import os
from pathlib import Path

import pytest

from kvscape.hub import watch


def test_files_count_and_what_vanishes_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone when its turn comes, as pip's temporary ones are."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"12345")
    (tmp_path / "gone").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert watch._size_bytes(tmp_path) == 5
