"""Cut a step's tokens into tiles of one sequence, the units of work of paged attention."""

import numpy as np

from kvscape.engine.devices.device import IntArray


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
