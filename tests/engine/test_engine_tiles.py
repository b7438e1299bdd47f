import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.engine.devices.tiles import query_tiles, token_ranges


def starts(lengths: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.cumsum([0, *lengths]).astype(np.int32)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    tile_tokens=st.integers(1, 48),
    threads=st.integers(1, 9),
)
def test_tiles_cover_every_token_once_and_stay_in_their_sequence(
    lengths: list[int], tile_tokens: int, threads: int
) -> None:
    tiles = query_tiles(starts(lengths), tile_tokens, threads)
    assert tiles.dtype == np.int32 and tiles.flags.c_contiguous
    covered = [(sequence, token) for sequence, first, count in tiles.tolist() for token in range(first, first + count)]
    owners = np.repeat(np.arange(len(lengths)), lengths).tolist()
    assert sorted(covered) == list(zip(owners, range(sum(lengths)), strict=True))
    assert (tiles[:, 2] >= 1).all() and (tiles[:, 2] <= tile_tokens).all()


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), tile_tokens=st.integers(1, 48))
def test_there_are_no_more_tiles_than_needed(lengths: list[int], tile_tokens: int) -> None:
    assert len(query_tiles(starts(lengths), tile_tokens, 3)) == sum(-(-length // tile_tokens) for length in lengths)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_early_and_late_tiles_of_a_prompt_are_dealt_to_all_threads(threads: int) -> None:
    """A tile's cost grows with its position: no thread may get only the late ones."""
    tiles = query_tiles(starts([12 * threads]), 1, threads)
    costs = [int(part[:, 1].sum()) for part in np.split(tiles, threads)]
    assert max(costs) - min(costs) <= 12 * threads


@given(ranges=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_a_token_has_a_tile_for_each_of_its_ranges_in_order(ranges: list[int]) -> None:
    tiles, first = token_ranges(np.array(ranges, np.int32))
    assert tiles.dtype == first.dtype == np.int32 and tiles.flags.c_contiguous
    for token, count in enumerate(ranges):
        own = tiles[first[token] : first[token + 1]].tolist()
        assert [(row[0], row[1], row[2], row[4]) for row in own] == [(token, token, 1, index) for index in range(count)]
