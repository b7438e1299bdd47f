"""Where the sequences of a step lie, and where their keys go that are rounded in groups."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from kvscape.config import KEY_GROUP
from kvscape.engine.devices.device import StepInput

SequenceRow: TypeAlias = tuple[int, int, int, int]
"""First token, tokens, tail, and how many groups the sequences before it add to."""


def sequence_rows(step: StepInput) -> list[SequenceRow]:
    """Return a row for each sequence of the step."""
    rows: list[SequenceRow] = []
    groups = 0
    for (start, stop), length, tail in zip(pairwise(step.query_starts), step.kv_lengths, step.tails, strict=True):
        tokens = stop - start
        rows.append((start, tokens, tail, groups))
        groups += (length - 1) // KEY_GROUP - (length - tokens) // KEY_GROUP + 1
    return rows


def first_groups(step: StepInput, rows: Sequence[SequenceRow]) -> list[int]:
    """Where the group of each sequence's position 0 would be."""
    return [
        groups - (length - tokens) // KEY_GROUP
        for (_, tokens, _, groups), length in zip(rows, step.kv_lengths, strict=True)
    ]
