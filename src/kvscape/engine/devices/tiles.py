"""Cut a step's tokens into tiles of one sequence, the units of work of paged attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

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


def attention_tiles(
    tiling: Tiling, query_starts: Sequence[int], kv_lengths: Sequence[int], first_groups: Sequence[int]
) -> tuple[list[Tile], list[int]]:
    """Return the tiles and the pieces of each token.

    Where single tokens are too few to keep the threads busy, each tile is one range of a token's keys, and those of
    token i are pieces[i] to pieces[i + 1]; otherwise a tile has all its ranges and there are no pieces.
    """
    single = query_starts[-1] == len(kv_lengths)
    few = len(kv_lengths) * tiling.heads < _TASKS_PER_THREAD * tiling.threads
    if single and few and max(kv_lengths) > tiling.range_tokens:
        return token_ranges([-(-length // tiling.range_tokens) for length in kv_lengths], first_groups)
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
    return [tile for thread in range(threads) for tile in tiles[thread::threads]]
