"""Sobol's sequence: points that fill a space evenly, however many are taken (Sobol' 1967)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kvscape.config import DesignPoint
from kvscape.study.search.knobs import Knobs
from kvscape.study.search.search import shuffled

BITS = 30
# Primitive polynomials and first direction numbers of the dimensions after the first (Joe and Kuo 2008).
_DIRECTIONS: Sequence[tuple[int, int, tuple[int, ...]]] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
    (7, 7, (1, 1, 3, 13, 7, 35, 63)),
    (7, 8, (1, 3, 5, 9, 1, 25, 53)),
)  # fmt: skip
MOST_DIMENSIONS = len(_DIRECTIONS) + 1
_TRIES = 16


def sobol(dimensions: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Numbers of [0, 1) in each dimension, in Gray code's order (Antonov and Saleev 1979), moved by a random shift."""
    shift = np.random.default_rng(seed).integers(1 << BITS, size=dimensions)
    directions = np.asarray([_direction_numbers(number) for number in range(dimensions)]).reshape(dimensions, BITS)
    state = np.zeros(dimensions, np.int64)
    for count in range(1 << BITS):
        yield (state ^ shift) / (1 << BITS)
        zero = (~count & (count + 1)).bit_length() - 1
        state ^= directions[:, zero]


def _direction_numbers(dimension: int) -> list[int]:
    if dimension == 0:
        return [1 << (BITS - 1 - bit) for bit in range(BITS)]
    degree, polynomial, first = _DIRECTIONS[dimension - 1]
    numbers = [value << (BITS - 1 - bit) for bit, value in enumerate(first)]
    for bit in range(degree, BITS):
        number = numbers[bit - degree] ^ (numbers[bit - degree] >> degree)
        for step in range(1, degree):
            if polynomial >> (degree - 1 - step) & 1:
                number ^= numbers[bit - step]
        numbers.append(number)
    return numbers


def sobol_order(points: Sequence[DesignPoint], seed: int) -> Iterator[DesignPoint]:
    """Points of a space, each once: those that the sequence hits, then what it seldom does, in a random order."""
    knobs = Knobs.of(points)
    index, sizes = knobs.index(), np.asarray([len(knob.values) for knob in knobs.knobs])
    left = dict(enumerate(points))
    sequence = sobol(len(sizes), seed)
    for _ in range(min(_TRIES * knobs.combinations, 1 << 16)):
        number = index.get(tuple((next(sequence) * sizes).astype(int).tolist()))
        if number in left:
            yield left.pop(number)
    yield from shuffled(list(left.values()), seed)
