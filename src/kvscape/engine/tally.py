"""Counts the tokens of a text that grows."""

from array import array
from collections.abc import Sequence

import numpy as np

from kvscape.engine.devices.device import IntArray


class Tally:
    """How often each token is in an answer; those of ``prompt`` alone are there no times.

    A long text costs nothing but its newest tokens: they are counted once. ``start`` is where the answer begins.
    """

    def __init__(self, prompt: Sequence[int], start: int) -> None:
        self._places: dict[int, int] = {}
        self._token_ids, self._counts = array("i"), array("i")
        self._known = start
        for token_id in prompt:
            self._counts[self._place(token_id)] += 0

    def of(self, token_ids: Sequence[int], ahead: Sequence[int] = ()) -> tuple[IntArray, IntArray]:
        """Different tokens and their counts, with the text grown to ``token_ids``, and some more that may follow."""
        for token_id in token_ids[self._known :]:
            self._counts[self._place(token_id)] += 1
        self._known = len(token_ids)
        known, counts = np.array(self._token_ids, np.int32), np.array(self._counts, np.int32)
        return _with(known, counts, ahead) if ahead else (known, counts)

    def _place(self, token_id: int) -> int:
        place = self._places.setdefault(token_id, len(self._token_ids))
        if place == len(self._token_ids):
            self._token_ids.append(token_id)
            self._counts.append(0)
        return place


def _with(token_ids: IntArray, counts: IntArray, ahead: Sequence[int]) -> tuple[IntArray, IntArray]:
    found, places = np.unique(np.concatenate([token_ids, np.array(ahead, np.int32)]), return_inverse=True)
    return found, np.bincount(places, np.concatenate([counts, np.ones(len(ahead), np.int32)])).astype(np.int32)
