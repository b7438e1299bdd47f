import mmap

import pytest

from kvscape.engine.devices.host_memory import HUGE_PAGE_BYTES, allocate

SIZES = [0, 1, 64, 4096, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5]


@pytest.mark.parametrize("nbytes", SIZES)
def test_memory_is_zeros_that_can_be_written(nbytes: int) -> None:
    memory = allocate(nbytes)
    assert memory.shape == (nbytes,)
    assert not memory.any()
    memory[:] = 1
    assert memory.all()


@pytest.mark.parametrize("nbytes", SIZES)
def test_it_begins_at_a_cache_line(nbytes: int) -> None:
    assert allocate(nbytes).ctypes.data % 64 == 0


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages on demand")
def test_large_memory_begins_at_a_huge_page() -> None:
    assert allocate(HUGE_PAGE_BYTES).ctypes.data % HUGE_PAGE_BYTES == 0


def test_without_huge_pages_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    memory = allocate(HUGE_PAGE_BYTES)
    assert memory.shape == (HUGE_PAGE_BYTES,) and not memory.any() and memory.ctypes.data % 64 == 0
