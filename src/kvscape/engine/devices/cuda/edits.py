"""Edited copies of rows of logits on a GPU."""

from collections.abc import Sequence
from typing import Any

from kvscape.engine.devices.cuda.runtime import fitting
from kvscape.engine.devices.cuda.tensors import CudaMemory, empty
from kvscape.engine.devices.device import Draw
from kvscape.engine.devices.edit_arrays import EditArrays, edit_arrays


class CudaEdits:
    """Memory for edits and the rows that they make, as much as the most so far took."""

    def __init__(self, device: Any, vocab_size: int) -> None:
        self._device, self._vocab_size = device, vocab_size
        self._shapes: tuple[tuple[int, int], ...] = ()
        self._most = self._rows = 0
        self._whole: Any = None
        self._changes = self._masks = 1

    def of(self, function: Any, logits: Any, draws: Sequence[Draw]) -> Any:
        """A tensor f32 [c, vocab_size]: the row of each draw with its edits, made by ``function``."""
        rows = self._edited(len(draws))
        function(logits, *self._sent(edit_arrays(draws, self._vocab_size)), rows)
        return rows

    def _sent(self, arrays: EditArrays) -> Sequence[Any]:
        self._changes, self._masks = _room(len(arrays.changes), self._changes), _room(len(arrays.masks), self._masks)
        lengths = (len(arrays.rows), self._changes, self._masks)
        shapes = tuple((length, array.shape[1]) for length, array in zip(lengths, arrays, strict=True))
        if shapes != self._shapes:
            with fitting(self._device.index, "a step's edits"):
                self._shapes, self._memory = shapes, CudaMemory(self._device, shapes)
        for place, array in zip(self._memory.arrays, arrays, strict=True):
            place[: len(array)] = array
        self._memory.send()
        return self._memory.tensors

    def _edited(self, rows: int) -> Any:
        if rows > self._most:
            self._whole, self._tensor, self._most, self._rows = None, None, 0, 0
            with fitting(self._device.index, "a step's edited logits"):
                self._whole = empty((rows, self._vocab_size), "float32", self._device)
            self._most = rows
        if rows != self._rows:
            self._rows = rows
            self._tensor = self._whole._create_view((rows, self._vocab_size), "float32", 0)
        return self._tensor


def _room(length: int, before: int) -> int:
    return before if length <= before else 1 << (length - 1).bit_length()
