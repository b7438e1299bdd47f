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


def with_groups(tiles: IntArray, rows: IntArray, positions: IntArray) -> IntArray:
    """``tiles`` [t, 3] with a fourth column: where the group of the sequence's position 0 would be."""
    zero = rows[:, 3] - positions[rows[:, 0]] // KEY_GROUP
    return np.concatenate([tiles, zero[tiles[:, :1]]], axis=1).astype(np.int32)
