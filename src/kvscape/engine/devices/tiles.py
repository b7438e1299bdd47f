"""Cut a step's tokens into tiles of one sequence, the units of work of paged attention."""

from dataclasses import dataclass

import numpy as np

from kvscape.engine.devices.device import IntArray, StepInput
from kvscape.engine.devices.key_groups import first_groups

_TASKS_PER_THREAD = 8


@dataclass(frozen=True)
class Tiling:
    """Tokens of a tile and keys of a range at most, key heads, and the threads that share the work."""

    tokens: int
    range_tokens: int
    heads: int
    threads: int


def attention_tiles(tiling: Tiling, step: StepInput, sequences: IntArray) -> tuple[IntArray, IntArray]:
    """Return tiles int32 [t, 5] (sequence, first token, tokens, first group, range) and the pieces of each token.

    Where single tokens are too few to keep the threads busy, each tile is one range of a token's keys, and those of
    token i are pieces[i] to pieces[i + 1], int32 [n + 1]; otherwise a tile has all its ranges and there are no pieces.
    """
    ranges = -(-step.kv_lengths // tiling.range_tokens)
    single = len(step.token_ids) == len(ranges)
    few = len(ranges) * tiling.heads < _TASKS_PER_THREAD * tiling.threads
    if single and few and ranges.max() > 1:
        tiles, pieces = token_ranges(ranges)
    else:
        whole = query_tiles(step.query_starts, tiling.tokens, tiling.threads)
        tiles, pieces = np.zeros((len(whole), 5), np.int32), np.empty(0, np.int32)
        tiles[:, :3] = whole
    tiles[:, 3] = first_groups(step, sequences)[tiles[:, 0]]
    return tiles, pieces


def token_ranges(ranges: IntArray) -> tuple[IntArray, IntArray]:
    """A tile for each of the ``ranges`` [n] of n single tokens, and the first tile of each token, int32 [n + 1]."""
    starts = np.zeros(len(ranges) + 1, np.int32)
    ranges.cumsum(out=starts[1:])
    tiles = np.ones((starts[-1], 5), np.int32)
    tiles[:, 0] = tiles[:, 1] = np.arange(len(ranges)).repeat(ranges)
    tiles[:, 4] = np.arange(len(tiles)) - starts[tiles[:, 0]]
    return tiles, starts


def query_tiles(query_starts: IntArray, tile_tokens: int, threads: int) -> IntArray:
    """Return int32 [t, 3]: sequence, first token, tokens.

    Later tiles of a prompt see more keys and take longer. Threads get consecutive tiles, so tiles are dealt out in
    turn: those of one thread lie together, early and late ones mixed.
    """
    tiles = [
        (sequence, first, min(tile_tokens, stop - first))
        for sequence, (start, stop) in enumerate(
            zip(query_starts[:-1].tolist(), query_starts[1:].tolist(), strict=True)
        )
        for first in range(start, stop, tile_tokens)
    ]
    dealt = [tile for thread in range(threads) for tile in tiles[thread::threads]]
    return np.array(dealt, np.int32).reshape(-1, 3)
