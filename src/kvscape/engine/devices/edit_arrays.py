"""Edits and questions of several rows side by side, as the kernels ``edit`` and ``token_logprobs`` read them."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from kvscape.engine.devices.device import CHANGE, Asked, Draw, IntArray
from kvscape.engine.devices.tensors import Block
from kvscape.engine.guide import BoolArray
from kvscape.engine.token_logprob import TokenLogprob

MOST_EDITED = 32
"""Rows at once: their edited copies take memory that no plan has."""
_NO_CHANGES = np.zeros(1, CHANGE)


class EditArrays(NamedTuple):
    """The edits of some draws; each of them is of one thing at least, read or not."""

    rows: IntArray
    """[c, 4]: the row, its changes from one up to another, and its mask, -1 for none."""
    changes: IntArray
    """[e, 4]: a token, and the bits of f32 numbers."""
    masks: IntArray
    """[m, vocab_size / 32]: a bit for each token, the first ones lowest."""


def edit_arrays(draws: Sequence[Draw], vocab_size: int) -> EditArrays:
    """What is done to the row of each draw."""
    changes, last = [_NO_CHANGES], len(_NO_CHANGES)
    masks: list[IntArray] = []
    rows: list[tuple[int, int, int, int]] = []
    for draw in draws:
        first, mask = last, -1
        if draw.edits is not None:
            changes.append(draw.edits.changes)
            last += len(draw.edits.changes)
            if draw.edits.allowed is not None:
                mask = len(masks)
                masks.append(_bits(draw.edits.allowed))
        rows.append((draw.row, first, last, mask))
    none = np.zeros((1, -(-vocab_size // 32)), np.int32)
    whole = np.concatenate(changes).view(np.int32).reshape(-1, 4)
    return EditArrays(np.array(rows, np.int32), whole, np.stack(masks) if masks else none)


def renumbered(draws: Sequence[Draw]) -> list[Draw]:
    """The same draws from the edited rows, which lie in their order."""
    return [draw._replace(row=row, edits=None) for row, draw in enumerate(draws)]


def _bits(allowed: BoolArray) -> IntArray:
    bits = np.packbits(allowed, bitorder="little")
    return np.pad(bits, (0, -len(bits) % 4)).view(np.int32)


def asked_block(asked: Sequence[Asked]) -> Block:
    """int32 [c, 2]: row and token."""
    return (len(asked), 2), [*chain.from_iterable((one.row, one.token_id) for one in asked)]


def width_told(asked: Sequence[Asked], vocab_size: int) -> int:
    """How many numbers the kernel tells of each."""
    return 1 + 2 * min(max(one.number for one in asked), vocab_size)


def told(found: IntArray, asked: Sequence[Asked]) -> list[TokenLogprob]:
    """What the kernel found, int32 [c, 1 + 2 n]: the bits of a log-probability, n tokens, and theirs."""
    number = found.shape[1] // 2
    token_ids, values = found[:, 1 : 1 + number].tolist(), found.view(np.float32)
    tops, own = values[:, 1 + number :].tolist(), values[:, 0].tolist()
    return [
        TokenLogprob(one.token_id, own[index], tuple(zip(token_ids[index], tops[index], strict=True))[: one.number])
        for index, one in enumerate(asked)
    ]
