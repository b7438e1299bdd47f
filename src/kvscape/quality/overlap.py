"""Whether a text is scored that weights were calibrated on: a model looks better there than it is."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from kvscape.config import Calibration

RUN = 13
"""Tokens in a row that two texts do not share by chance (as many as GPT-3's authors took, arXiv 2005.14165)."""

Windows: TypeAlias = npt.NDArray[Any]
"""Token ids [windows, tokens of one]."""


@runtime_checkable
class Calibrated(Protocol):
    """A subject that knows what its weights were calibrated on."""

    @property
    def calibration(self) -> tuple[Calibration, Windows] | None: ...


def overlap(texts: Iterable[Sequence[int]], windows: Windows) -> float:
    """The share of the tokens of ``texts`` that lie in a run of ``RUN`` tokens which one of ``windows`` has as well."""
    known = np.unique(np.concatenate([_runs(window) for window in windows]))
    shared = tokens = 0
    for text in texts:
        found = np.isin(_runs(np.asarray(text)), known)
        inside = np.convolve(found, np.ones(RUN, int)) > 0 if found.size else found
        shared, tokens = shared + int(inside.sum()), tokens + len(text)
    return shared / tokens if tokens else 0.0


def _runs(token_ids: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A number for each run of tokens: equal where these are, and hardly ever otherwise."""
    if len(token_ids) < RUN:
        return np.empty(0, np.uint64)
    factors = np.uint64(0x9E3779B97F4A7C15) ** np.arange(RUN, dtype=np.uint64)  # modulo 2^64
    spread = (token_ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    spread ^= spread >> np.uint64(31)
    runs: npt.NDArray[np.uint64] = np.lib.stride_tricks.sliding_window_view(spread, RUN) @ factors
    return runs
