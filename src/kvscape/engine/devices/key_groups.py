"""Where the sequences of a step lie, and where their keys go that are rounded in groups."""

import numpy as np

from kvscape.config import KEY_GROUP
from kvscape.engine.devices.device import IntArray, StepInput


def sequence_rows(step: StepInput) -> IntArray:
    """Return int32 [s, 4]: first token, tokens, tail, and how many groups the sequences before it add to."""
    rows = np.empty((len(step.kv_lengths), 4), np.int32)
    rows[:, 0], rows[:, 2] = step.query_starts[:-1], step.tails
    rows[:, 1] = step.query_starts[1:] - rows[:, 0]
    groups = (step.kv_lengths - 1) // KEY_GROUP - (step.kv_lengths - rows[:, 1]) // KEY_GROUP + 1
    rows[:, 3] = groups.cumsum() - groups
    return rows


def first_groups(step: StepInput, rows: IntArray) -> IntArray:
    """Where the group of each sequence's position 0 would be, [s]."""
    result: IntArray = rows[:, 3] - (step.kv_lengths - rows[:, 1]) // KEY_GROUP
    return result
