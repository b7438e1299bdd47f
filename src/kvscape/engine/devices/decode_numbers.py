"""A step of single tokens in fixed shapes: what a graph of launches was made with, and is filled with each time.

Rows that no sequence has are sequences of one token in a page that nobody has, ``Spare``; tiles that nobody needs begin
behind the last key of their token. Both change no number of the others.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.config import KEY_GROUP
from kvscape.engine.devices.device import StepInput

Shape: TypeAlias = tuple[int, ...]

_MOST_TOKENS = 256
_FEWEST_TILES = 8
_FEWEST_PAGES = 16


class Ints(Protocol):
    """int32 tensors that stay where they are."""

    @property
    def arrays(self) -> Sequence[npt.NDArray[np.int32]]:
        """The host's side of each."""

    @property
    def tensors(self) -> Sequence[Any]:
        """The device's side of each."""

    def send(self) -> None:
        """Let the device have what the host's side holds."""


class Spare(NamedTuple):
    """What belongs to no sequence: a page of each layer group with the slot of its first token, and a tail."""

    pages: tuple[int, ...]
    slots: tuple[int, ...]
    tail: int


class Bucket(NamedTuple):
    """Tokens, tiles of attention, and pages of a sequence in each layer group: steps up to these use one graph."""

    tokens: int
    tiles: int
    widths: tuple[int, ...]

    def shapes(self) -> list[Shape]:
        """Those of ``arguments.step_blocks``."""
        n, groups = self.tokens, len(self.widths)
        common: list[Shape] = [(n,), (n,), (n, 4), (self.tiles, 5), (n + 1,), (n,)]
        tables: list[Shape] = [(n, width) for width in self.widths]
        return [*common, *((n,),) * groups, *tables, *((2,),) * groups, *((n,),) * groups]


def bucket(step: StepInput, range_tokens: int) -> Bucket | None:
    """The smallest bucket that has room for ``step``; None where it has more than single tokens, or too many."""
    sequences = len(step.kv_lengths)
    if step.query_starts[-1] != sequences or sequences > _MOST_TOKENS or not step.logit_rows:
        return None
    tokens = _power_of_two(sequences)
    tiles = sum(_ranges(length, range_tokens) for length in step.kv_lengths) + tokens - sequences
    widths = (_power_of_two(max(_FEWEST_PAGES, len(tables[0]))) for tables in step.page_tables)
    return Bucket(tokens, _tiles(tiles), tuple(widths))


def _ranges(length: int, range_tokens: int) -> int:
    return -(-length // range_tokens)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _tiles(number: int) -> int:
    """Up to a quarter more: each tile that has no key costs a little."""
    step = max(_FEWEST_TILES, _power_of_two(number) // 8)
    return -(-number // step) * step


class DecodeNumbers:
    """The numbers of one bucket; what is as it was in the step before is not written again."""

    def __init__(self, bucket: Bucket, ints: Ints, range_tokens: int, spare: Spare) -> None:
        self._bucket, self._ints, self._range_tokens, self._spare = bucket, ints, range_tokens, spare
        groups = len(bucket.widths)
        self._ids, self._positions, self._sequences, self._tiles, self._pieces, self._rows = ints.arrays[:6]
        kinds = [ints.arrays[first : first + groups] for first in range(6, 6 + 4 * groups, groups)]
        self._slots, self._tables, self._windows, self._sink_positions = kinds
        self._written: list[Any] = [None] * 4
        self._written_tables: list[list[Sequence[int]]] = [[()] * bucket.tokens for _ in bucket.widths]

    @property
    def tensors(self) -> Sequence[Any]:
        return self._ints.tensors

    def fill(self, step: StepInput) -> None:
        """Take the numbers of ``step``, which the bucket has room for."""
        n = len(step.kv_lengths)
        self._ids[:n], self._positions[:n] = step.token_ids, step.positions
        for group, window in enumerate(step.windows):
            self._slots[group][:n] = step.slots[group]
            last = window.size - 1
            self._sink_positions[group][:n] = [min(position, last) for position in step.positions]
        self._fill_changed(step, n)
        for group, tables in enumerate(step.page_tables):
            self._fill_tables(group, [*tables, *((self._spare.pages[group],),) * (self._bucket.tokens - n)])
        self._ints.send()

    def _fill_changed(self, step: StepInput, n: int) -> None:
        groups = [(length - 1) // KEY_GROUP for length in step.kv_lengths]
        states = [(n, list(step.windows)), (n, list(step.tails)), groups, list(step.logit_rows)]
        writers = (self._fill_spare, self._fill_sequences, self._fill_tiles, self._fill_rows)
        for index, (state, write) in enumerate(zip(states, writers, strict=True)):
            if state != self._written[index]:
                write(step, n)
                self._written[index] = state

    def _fill_spare(self, step: StepInput, n: int) -> None:
        """What lies behind the step's own rows."""
        self._ids[n:] = self._positions[n:] = 0
        for group, window in enumerate(step.windows):
            self._slots[group][n:], self._sink_positions[group][n:] = self._spare.slots[group], 0
            self._windows[group][:] = window.sinks, window.recent

    def _fill_sequences(self, step: StepInput, n: int) -> None:
        numbers = np.arange(self._bucket.tokens)
        self._sequences[:, 0] = self._sequences[:, 3] = numbers
        self._sequences[:, 1] = 1
        self._sequences[:n, 2], self._sequences[n:, 2] = step.tails, self._spare.tail

    def _fill_tiles(self, step: StepInput, n: int) -> None:
        lengths = np.array([*step.kv_lengths, *(1,) * (self._bucket.tokens - n)])
        ranges = -(-lengths // self._range_tokens)
        self._pieces[0], self._pieces[1:] = 0, np.cumsum(ranges)
        total, token = int(self._pieces[-1]), np.repeat(np.arange(len(lengths)), ranges)
        own = np.arange(len(lengths)) - (lengths - 1) // KEY_GROUP
        self._tiles[:total, 0] = self._tiles[:total, 1] = token
        self._tiles[:, 2] = 1
        self._tiles[:total, 3] = own[token]
        self._tiles[:total, 4] = np.arange(total) - self._pieces[token]
        self._tiles[total:] = 0, 0, 1, own[0], ranges[0]

    def _fill_rows(self, step: StepInput, n: int) -> None:
        self._rows[:] = 0
        self._rows[: len(step.logit_rows)] = step.logit_rows

    def _fill_tables(self, group: int, tables: Sequence[Sequence[int]]) -> None:
        """Most sequences have the pages that they had."""
        written = self._written_tables[group]
        for row, table in enumerate(tables):
            if table != written[row]:
                self._tables[group][row, : len(table)], self._tables[group][row, len(table) :] = table, 0
                written[row] = table[:]
