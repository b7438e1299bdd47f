import threading
from collections.abc import Iterator

import pytest

from kvscape.weights.blocks import blocks, in_order


def test_blocks_are_all_rows_in_order() -> None:
    for rows, columns, multiple in [(1, 8, 1), (1000, 4096, 8), (24, 1 << 21, 8), (7, 1 << 19, 1)]:
        found = blocks(rows, columns, multiple)
        assert [row for block in found for row in range(block.start, block.stop)] == list(range(rows))
        assert all(block.start % multiple == 0 for block in found)
        assert max(block.stop - block.start for block in found) <= max(multiple, (1 << 20) // columns)


def test_results_keep_the_order_of_their_items() -> None:
    first = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            first.wait(60)
        elif item == 1:
            first.set()
        return item * item

    assert list(in_order(work, range(50))) == [i * i for i in range(50)]


def test_few_items_are_begun_before_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvscape.weights.blocks._MOST_THREADS", 2)
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            begun.append(item)
            yield item

    for done in in_order(abs, items()):
        assert len(begun) <= done + 3


def test_an_error_ends_it() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = in_order(work, range(1000))
    with pytest.raises(ValueError, match="three"):
        list(results)
