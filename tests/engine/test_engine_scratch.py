"""What the pool keeps: counted by a pool that, as TVM's, has a piece of each size it was ever asked for."""

import random

from kvscape.analysis.memory import Workspace
from kvscape.engine.devices.scratch import Scratch

WORKSPACE = Workspace(0, 1000, 10, 100, bytes_per_tile=500)


class Pool:
    """Holds pieces of what steps have asked for; only whole emptying makes it smaller."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[int, ...], int] = {}
        self.times_emptied = 0

    @property
    def nbytes(self) -> int:
        return sum(self.pieces.values())

    def empty(self) -> None:
        self.pieces.clear()
        self.times_emptied += 1

    def take(self, tokens: int, sequences: int, rows: int, tiles: int) -> int:
        """The bytes of a step."""
        self.pieces[tokens, sequences, rows] = WORKSPACE.nbytes(tokens, sequences, rows)
        self.pieces[(tiles,)] = WORKSPACE.bytes_per_tile * tiles
        return WORKSPACE.nbytes(tokens, sequences, rows, tiles)


def run(*steps: tuple[int, int, int, int]) -> tuple[Pool, int]:
    """The pool after these steps, and the largest step; it never holds more than twice that."""
    pool, largest = Pool(), 0
    scratch = Scratch(WORKSPACE, pool.empty)
    for step in steps:
        scratch.before(*step)
        largest = max(largest, pool.take(*step))
        assert pool.nbytes <= 2 * largest
    return pool, largest


def test_steps_of_equal_sizes_share_what_is_kept() -> None:
    chunk, decode = (512, 1, 1, 40), (1, 1, 1, 40)
    pool, _ = run(*[chunk, decode] * 50)
    assert pool.times_emptied == 0


def test_a_growing_text_empties_the_pool_now_and_then() -> None:
    pool, largest = run(*[(16, 16, 16, tiles) for tiles in range(16, 2048)])
    assert largest < pool.nbytes and pool.times_emptied > 5


def test_whatever_comes_no_more_than_two_steps_are_kept() -> None:
    rng = random.Random(0)
    sizes = [tuple(rng.randrange(1, most) for most in (600, 32, 32, 900)) for _ in range(500)]
    run(*sizes)  # type: ignore[arg-type]
