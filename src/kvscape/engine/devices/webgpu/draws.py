"""How tokens are drawn, as the kernel ``sample`` reads it: 32-bit numbers, for WGSL has no longer ones."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from struct import pack, unpack

from kvscape.engine.devices.device import Draw
from kvscape.engine.devices.tensors import Block

_MOST_INT, _MOST_FLOAT, _ONE = (1 << 31) - 1, 3e38, 1 << 32


def draw_block(draws: Sequence[Draw]) -> Block:
    """int32 [c, 6]: row, top_k, f32 1 / temperature or 0, top_p of 2^32, f32 log(min_p), uniform of 2^32."""
    numbers = list(chain.from_iterable(map(_numbers, draws)))
    return (len(draws), len(numbers) // len(draws)), numbers


def _numbers(draw: Draw) -> Iterator[int]:
    yield draw.row
    yield min(draw.top_k, _MOST_INT)
    yield _bits(min(1 / draw.temperature, _MOST_FLOAT) if draw.temperature else 0.0)
    yield _share(draw.top_p)
    yield _bits(math.log(draw.min_p) if draw.min_p else -_MOST_FLOAT)
    yield _share(draw.uniform)


def _bits(number: float) -> int:
    (bits,) = unpack("=i", pack("=f", number))
    return int(bits)


def _share(part: float) -> int:
    """The unsigned number of 2^32, the largest for all of it, as a signed one has its bits."""
    (bits,) = unpack("=i", pack("=I", min(int(part * _ONE), _ONE - 1)))
    return int(bits)
