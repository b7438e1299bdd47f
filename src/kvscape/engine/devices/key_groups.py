"""Where the sequences of a step lie, and where their keys go that are rounded in groups."""

import numpy as np

from kvscape.config import KEY_GROUP
from kvscape.engine.devices.device import IntArray, StepInput


def sequence_rows(step: StepInput) -> IntArray:
    """Return int32 [s, 4]: first token, tokens, tail, and how many groups the sequences before it add to."""
    firsts, tokens = step.query_starts[:-1], np.diff(step.query_starts)
    starts = step.positions[firsts]
    groups = (starts + tokens - 1) // KEY_GROUP - starts // KEY_GROUP + 1
    return np.stack([firsts, tokens, step.tails, np.cumsum(groups) - groups], axis=1).astype(np.int32)


def first_groups(rows: IntArray, positions: IntArray) -> IntArray:
    """Where the group of each sequence's position 0 would be, [s]."""
    result: IntArray = rows[:, 3] - positions[rows[:, 0]] // KEY_GROUP
    return result
