"""Windows and sinks at positions far past any training context, against attention at positions inside the cache."""

import numpy as np
import pytest
from built_kernels import Array
from paged import Heads, PagedCase, attention, rope, rotated

from kvscape.config import Window

HEADS = Heads("f32", 2, 3, 64)
LENGTH = 100  # one chunk, longer than every window
WINDOWS = [Window(0, 8), Window(4, 8), Window(0, 40), Window(4, 40)]
of_windows = pytest.mark.parametrize("window", WINDOWS, ids=str)
of_starts = pytest.mark.parametrize("start", [50_000, 1_000_003])


def streamed(qkv: Array, window: Window, start: int, page_size: int) -> Array:
    """The sinks at the text's beginning, the others from ``start`` on; every page between them is gone."""
    case = PagedCase(HEADS, [window.sinks + LENGTH + 2 * page_size], page_size)
    pages, first = case.tables[0].copy(), start // page_size
    case.tables = np.full((1, first + len(pages) - 1), case.num_pages - 1, np.int32)  # a page full of garbage
    case.tables[0, 0], case.tables[0, first:] = pages[0], pages[1:]
    case.append_windowed(qkv[: window.sinks], 0, 0, window)
    q, sink_q = case.append_windowed(qkv[window.sinks :], 0, start, window)
    return case.attend(q, [(0, start, start + LENGTH)], sink_q=sink_q, window=window)[window.recent :]


def plain(qkv: Array, window: Window) -> Array:
    """Queries whose window is full see the sinks and the recent tokens at the positions 0, 1, 2 … in the cache."""
    queries, keys, values = HEADS.split(qkv)
    table = rope(np.arange(window.size), HEADS.dim)
    rows = []
    for last in range(window.sinks + window.recent, len(qkv)):
        seen = [*range(window.sinks), *range(last - window.recent + 1, last + 1)]
        turned = np.zeros((window.size, *queries.shape[1:]), np.float32)
        turned[-1] = rotated(queries[last : last + 1], table[-1:])[0]
        rows.append(attention(turned, rotated(keys[seen], table), values[seen])[-1])
    return np.stack(rows)


@of_windows
@of_starts
@pytest.mark.parametrize("page_size", [16, 32])
def test_far_queries_see_what_near_ones_would(window: Window, start: int, page_size: int) -> None:
    qkv = HEADS.qkv(window.sinks + LENGTH, seed=8)
    expected = plain(qkv, window)
    np.testing.assert_allclose(streamed(qkv, window, start, page_size), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).mean() > 0.05, "worth comparing"
