from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.engine.devices.arguments import many_tokens, single_tokens
from kvscape.engine.devices.device import StepInput
from kvscape.engine.devices.tiles import Tiling, query_tiles, token_ranges


def starts(lengths: list[int]) -> list[int]:
    return [0, *accumulate(lengths)]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    tile_tokens=st.integers(1, 48),
    threads=st.integers(1, 9),
)
def test_tiles_cover_every_token_once_and_stay_in_their_sequence(
    lengths: list[int], tile_tokens: int, threads: int
) -> None:
    groups = [7 * index for index in range(len(lengths))]
    tiles = query_tiles(starts(lengths), tile_tokens, threads, groups)
    covered = [(sequence, token) for sequence, first, count, _, _ in tiles for token in range(first, first + count)]
    owners = np.repeat(np.arange(len(lengths)), lengths).tolist()
    assert sorted(covered) == list(zip(owners, range(sum(lengths)), strict=True))
    assert all(1 <= count <= tile_tokens for _, _, count, _, _ in tiles)
    assert all((group, keys) == (7 * sequence, 0) for sequence, _, _, group, keys in tiles)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), tile_tokens=st.integers(1, 48))
def test_there_are_no_more_tiles_than_needed(lengths: list[int], tile_tokens: int) -> None:
    assert len(query_tiles(starts(lengths), tile_tokens, 3, lengths)) == sum(
        -(-length // tile_tokens) for length in lengths
    )


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_early_and_late_tiles_of_a_prompt_are_dealt_to_all_threads(threads: int) -> None:
    """A tile's cost grows with its position: no thread may get only the late ones."""
    tiles = query_tiles(starts([12 * threads]), 1, threads, [0])
    costs = [sum(first for _, first, _, _, _ in tiles[part * 12 : part * 12 + 12]) for part in range(threads)]
    assert max(costs) - min(costs) <= 12 * threads


@given(ranges=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_a_token_has_a_tile_for_each_of_its_ranges_in_order(ranges: list[int]) -> None:
    tiles, first = token_ranges(ranges, [7 * token for token in range(len(ranges))])
    assert first[-1] == len(tiles)
    for token, count in enumerate(ranges):
        own = tiles[first[token] : first[token + 1]]
        assert own == [(token, token, 1, 7 * token, index) for index in range(count)]


@given(
    kv_lengths=st.lists(st.integers(1, 900), min_size=1, max_size=12),
    threads=st.integers(1, 9),
    heads=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_single_tokens_are_cut_as_any_tokens_are(kv_lengths: list[int], threads: int, heads: int, seed: int) -> None:
    n = len(kv_lengths)
    tails = np.random.default_rng(seed).permutation(n).tolist()
    positions = [length - 1 for length in kv_lengths]
    step = StepInput([0] * n, positions, range(n + 1), kv_lengths, [], [], [], range(n), tails)
    tiling = Tiling(16, 256, heads, threads)
    assert single_tokens(step, tiling) == many_tokens(step, tiling)
