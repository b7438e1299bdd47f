"""Cut a step's tokens into tiles of one sequence, the units of work of paged attention."""

from dataclasses import dataclass

import numpy as np

from kvscape.engine.devices.device import IntArray

_TASKS_PER_THREAD = 8


@dataclass(frozen=True)
class Tiling:
    """Tokens of a tile and keys of a range at most, key heads, and the threads that share the work."""

    tokens: int
    range_tokens: int
    heads: int
    threads: int


def attention_tiles(tiling: Tiling, query_starts: IntArray, kv_lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Return tiles int32 [t, 4] (sequence, first token, tokens, range) and the pieces of each token.

    Where single tokens are too few to keep the threads busy, each tile is one range of a token's keys, and those of
    token i are pieces[i] to pieces[i + 1], int32 [n + 1]; otherwise a tile has all its ranges and there are no pieces.
    """
    ranges = -(-kv_lengths // tiling.range_tokens)
    single = query_starts[-1] == len(kv_lengths)
    few = len(kv_lengths) * tiling.heads < _TASKS_PER_THREAD * tiling.threads
    if single and few and ranges.max() > 1:
        return _pieces(ranges)
    tiles = query_tiles(query_starts, tiling.tokens, tiling.threads)
    return np.pad(tiles, ((0, 0), (0, 1))), np.empty(0, np.int32)


def _pieces(ranges: IntArray) -> tuple[IntArray, IntArray]:
    starts = np.concatenate([[0], np.cumsum(ranges)])
    tokens = np.repeat(np.arange(len(ranges)), ranges)
    index = np.arange(starts[-1]) - starts[tokens]
    return np.stack([tokens, tokens, np.ones_like(tokens), index], 1).astype(np.int32), starts.astype(np.int32)


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
