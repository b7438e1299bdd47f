from pathlib import Path

import numpy as np
import pytest

from kvscape.artifact.tensor_file import TensorSpec, map_tensors
from kvscape.artifact.tensor_writer import TensorWriter

SPECS = {"matrix": TensorSpec("float16", (6, 4)), "norm": TensorSpec("float32", (5,))}
MATRIX = np.arange(24, dtype=np.float16).reshape(6, 4)
NORM = np.arange(5, dtype=np.float32)


def test_rows_are_written_in_any_order(tmp_path: Path) -> None:
    with TensorWriter(tmp_path / "w", SPECS) as writer:
        writer.write("norm", NORM)
        for first in (4, 0, 2):
            writer.write("matrix", MATRIX[first : first + 2], first)
    found = map_tensors(tmp_path / "w")
    assert (found["matrix"] == MATRIX).all() and (found["norm"] == NORM).all()


def test_a_layout_is_written_by_its_share_of_the_rows(tmp_path: Path) -> None:
    with TensorWriter(tmp_path / "w", {"codes": TensorSpec("uint8", (24,))}) as writer:
        writer.write("codes", np.arange(12, dtype=np.uint8), first_row=3, rows=6)
    assert map_tensors(tmp_path / "w")["codes"].tolist() == [0] * 12 + list(range(12))


def test_what_was_written_stays_and_can_be_read(tmp_path: Path) -> None:
    with TensorWriter(tmp_path / "w", SPECS) as writer:
        writer.write("matrix", MATRIX)
    with TensorWriter(tmp_path / "w", SPECS) as writer:
        assert writer.read("matrix", 2, 3) == MATRIX[2:5].tobytes()
        writer.write("norm", NORM)
    assert (map_tensors(tmp_path / "w")["matrix"] == MATRIX).all()


@pytest.mark.parametrize(("array", "first"), [(MATRIX, 1), (MATRIX.astype(np.float32), 0), (NORM, 0)])
def test_what_does_not_fit_is_refused(tmp_path: Path, array: np.ndarray, first: int) -> None:
    with TensorWriter(tmp_path / "w", SPECS) as writer, pytest.raises(ValueError, match="expected matrix"):
        writer.write("matrix", array, first)
