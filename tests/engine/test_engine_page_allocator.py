"""A pool's pages: counted, kept by name while there is room, given up in the order they were let go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvscape.engine.page_allocator import PageAllocator
from kvscape.errors import CapacityError


def freed(pool: PageAllocator, *names: bytes) -> list[int]:
    """Pages that were named and let go, in this order."""
    pages = [pool.allocate() for _ in names]
    for page, name in zip(pages, names, strict=True):
        pool.name(page, name)
    for page in pages:
        pool.release(page)
    return pages


def test_a_shared_page_is_freed_by_its_last_holder() -> None:
    pool = PageAllocator(1)
    page = pool.allocate()
    pool.share(page)
    pool.release(page)
    with pytest.raises(CapacityError, match="all 1 pages are in use"):
        pool.allocate()
    pool.release(page)
    assert pool.allocate() == page


@pytest.mark.parametrize(
    "use", [PageAllocator.release, PageAllocator.share, lambda pool, page: pool.name(page, b"name")]
)
def test_a_free_page_cannot_be_used(use: object) -> None:
    with pytest.raises(ValueError, match="page 0 is free"):
        use(PageAllocator(1), 0)  # type: ignore[operator]


def test_a_named_page_is_found_and_shared_after_it_was_let_go() -> None:
    pool = PageAllocator(2)
    (page,) = freed(pool, b"a")
    assert pool.num_free == 2 and pool.named == {b"a": page}
    pool.share(page)
    assert pool.num_free == 1 and pool.references(page) == 1
    assert pool.allocate() != page


def test_nameless_pages_are_used_before_named_ones() -> None:
    pool = PageAllocator(3)
    first, second = freed(pool, b"a", b"b")
    assert pool.allocate() not in (first, second)
    assert set(pool.named) == {b"a", b"b"}


def test_the_page_let_go_first_is_given_up_first_and_loses_its_name() -> None:
    pool = PageAllocator(3)
    first, second, third = freed(pool, b"a", b"b", b"c")
    pool.share(first)
    pool.release(first)
    assert [pool.allocate(), pool.allocate()] == [second, third]
    assert pool.named == {b"a": first}
    pool.name(second, b"d")
    assert pool.named == {b"a": first, b"d": second}


def test_of_pages_that_hold_the_same_the_first_has_the_name() -> None:
    pool = PageAllocator(2)
    first, second = pool.allocate(), pool.allocate()
    for page in (first, second):
        pool.name(page, b"a")
    pool.release(second)
    assert pool.named == {b"a": first} and pool.allocate() == second


ACTION = st.tuples(st.sampled_from(["allocate", "share", "release", "name"]), st.integers(0, 7), st.integers(0, 9))


@given(st.lists(ACTION, max_size=60), st.integers(1, 6))
def test_a_pool_does_what_a_plain_list_of_uses_says(actions: list[tuple[str, int, int]], size: int) -> None:
    """The reference keeps, for each page, its holders, its name and when it was last let go."""
    pool = PageAllocator(size)
    holders, names, let_go = [0] * size, [b""] * size, list(range(-size, 0))[::-1]
    for time, (action, number, letter) in enumerate(actions):
        page, name = number % size, b"%d" % letter
        free = [one for one in range(size) if holders[one] == 0]
        if action == "allocate" and free:
            nameless = [one for one in free if not names[one]]
            expected = max(nameless, key=let_go.__getitem__) if nameless else min(free, key=let_go.__getitem__)
            assert pool.allocate() == expected
            holders[expected], names[expected] = 1, b""
        elif action == "share" and (holders[page] or names[page]):
            pool.share(page)
            holders[page] += 1
        elif action == "release" and holders[page]:
            pool.release(page)
            holders[page] -= 1
            let_go[page] = time
        elif action == "name" and holders[page] and not names[page]:
            pool.name(page, name)
            names[page] = b"" if name in names else name
        assert pool.named == {known: one for one, known in enumerate(names) if known}
        assert [pool.references(one) for one in range(size)] == holders
        assert pool.num_free == holders.count(0)
