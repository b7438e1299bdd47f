"""What the scripts in this folder say of each thing that they compare with its reference."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LIMIT = 2e-3


@dataclass(frozen=True)
class Checked:
    """What came out of one kernel; ``same`` says whether what must be equal to the last bit was."""

    name: str
    error: float
    same: bool = True
    limit: float = LIMIT

    @property
    def is_good(self) -> bool:
        return self.error <= self.limit and self.same

    def __str__(self) -> str:
        mark = "" if self.is_good else "  BAD" if self.same else "  BAD: it depends on the batch"
        return f"{self.name:60} {self.error:.1e}{mark}"


def error(out: Array, reference: Array) -> float:
    """||out - reference|| / ||reference||."""
    return float(np.linalg.norm(out.astype(np.float64) - reference) / np.linalg.norm(reference))


def report(checks: Iterable[Checked]) -> int:
    """Print each, and at last how many are bad; return the exit status."""
    bad = 0
    for checked in checks:
        bad += not checked.is_good
        print(checked, flush=True)
    print(f"{bad} bad")
    return int(bad > 0)
