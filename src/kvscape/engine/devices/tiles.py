"""Cut a step's tokens into tiles of one sequence, the units of work of paged attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

_TASKS_PER_THREAD = 8


Tile: TypeAlias = tuple[int, int, int, int, int]
"""Sequence, first token, tokens, where the sequence's group 0 would be, and which range of the keys."""


@dataclass(frozen=True)
class Tiling:
    """Tokens of a tile and keys of a range at most, key heads, and the threads that share the work."""

    tokens: int
    range_tokens: int
    heads: int
    threads: int

    def splits(self, kv_lengths: Sequence[int]) -> bool:
        """Whether single tokens are too few to keep the threads busy, and have keys to share among these."""
        few = len(kv_lengths) * self.heads < _TASKS_PER_THREAD * self.threads
        return few and max(kv_lengths) > self.range_tokens

    def token_ranges(self, kv_lengths: Sequence[int], first_groups: Sequence[int]) -> tuple[list[Tile], list[int]]:
        """Tiles and pieces of single tokens whose ranges are shared."""
        return token_ranges([-(-length // self.range_tokens) for length in kv_lengths], first_groups)


def attention_tiles(
    tiling: Tiling, query_starts: Sequence[int], kv_lengths: Sequence[int], first_groups: Sequence[int]
) -> tuple[list[Tile], list[int]]:
    """Return the tiles and the pieces of each token.

    Where single tokens are too few to keep the threads busy, each tile is one range of a token's keys, and those of
    token i are pieces[i] to pieces[i + 1]; otherwise a tile has all its ranges and there are no pieces.
    """
    if query_starts[-1] == len(kv_lengths) and tiling.splits(kv_lengths):
        return tiling.token_ranges(kv_lengths, first_groups)
    return query_tiles(query_starts, tiling.tokens, tiling.threads, first_groups), []


def token_ranges(ranges: Sequence[int], first_groups: Sequence[int]) -> tuple[list[Tile], list[int]]:
    """A tile for each of the ``ranges`` of single tokens, and the first tile of each token; at last their number."""
    tiles = [
        (token, token, 1, first_groups[token], index) for token, count in enumerate(ranges) for index in range(count)
    ]
    return tiles, [0, *accumulate(ranges)]


def query_tiles(query_starts: Sequence[int], tile_tokens: int, threads: int, first_groups: Sequence[int]) -> list[Tile]:
    """Return tiles of up to ``tile_tokens`` with all their keys.

    Later tiles of a prompt see more keys and take longer. Threads get consecutive tiles, so tiles are dealt out in
    turn: those of one thread lie together, early and late ones mixed.
    """
    tiles = [
        (sequence, first, min(tile_tokens, stop - first), first_groups[sequence], 0)
        for sequence, (start, stop) in enumerate(pairwise(query_starts))
        for first in range(start, stop, tile_tokens)
    ]
    return dealt(tiles, threads)


def dealt(tiles: Sequence[Any], threads: int) -> list[Any]:
    """Tiles in the order of the threads that get them."""
    if len(tiles) <= threads:
        return [*tiles]
    return [tile for thread in range(threads) for tile in tiles[thread::threads]]
