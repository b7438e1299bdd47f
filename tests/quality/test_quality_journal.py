from pathlib import Path

import numpy as np
import pytest

from kvscape.errors import HubError
from kvscape.quality.journal import Journal
from kvscape.quality.protocols import Window

ONE, TWO = Window([1, 2, 3], first_target=1), Window([4, 5, 6, 7], first_target=2)
SCORES = {ONE.first_target: np.array([0.5, 1.5], np.float32), TWO.first_target: np.array([2.5, 0.1], np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two windows, whose process was killed."""
    journal = Journal(tmp_path / "ppl" / "key.scores")
    for window in (ONE, TWO):
        journal.add(window, SCORES[window.first_target])
    return journal.path


def found(path: Path) -> list[bool]:
    journal = Journal(path)
    for window in (ONE, TWO):
        known = journal.find(window)
        assert known is None or known.tobytes() == SCORES[window.first_target].tobytes()
    return [journal.find(window) is not None for window in (ONE, TWO)]


def test_what_a_killed_process_scored_is_there_bit_for_bit(path: Path) -> None:
    assert found(path) == [True, True]


def test_another_window_is_not(path: Path) -> None:
    journal = Journal(path)
    assert journal.find(Window([1, 2, 4], first_target=1)) is None
    assert journal.find(Window([1, 2, 3], first_target=2)) is None


@pytest.mark.parametrize("lost", range(1, 33))
def test_a_torn_end_is_cut_off(path: Path, lost: int) -> None:
    path.write_bytes(path.read_bytes()[:-lost])
    assert found(path) == [True, False]
    with pytest.raises(KeyboardInterrupt), Journal(path) as journal:
        journal.add(TWO, SCORES[2])
        raise KeyboardInterrupt
    assert found(path) == [True, True]


def test_a_damaged_entry_and_what_follows_is_scored_again(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[25] ^= 1
    path.write_bytes(content)
    assert found(path) == [False, False]


def test_a_measurement_that_ends_needs_it_no_more(path: Path) -> None:
    with Journal(path):
        pass
    assert not path.exists()


def test_a_restart_forgets(path: Path) -> None:
    assert Journal(path, restart=True).find(ONE) is None


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "ppl").touch()
    with pytest.raises(HubError, match="cannot write the cache"):
        Journal(tmp_path / "ppl" / "key.scores")


def test_a_full_disk_is_one_clear_line(path: Path) -> None:
    journal = Journal(path)
    journal.path = Path("/dev/full")
    with pytest.raises(HubError, match="cannot write the cache /dev/full: No space left on device"):
        journal.add(ONE, SCORES[ONE.first_target])
