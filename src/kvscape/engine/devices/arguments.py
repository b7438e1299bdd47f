"""The numbers of a step as the compiled function takes them: the order and the shapes of ``models.step``."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from kvscape.engine.devices.device import StepInput
from kvscape.engine.devices.key_groups import first_groups, sequence_rows
from kvscape.engine.devices.tensors import Block, tensor_list
from kvscape.engine.devices.tiles import Tiling, attention_tiles

_COMMON = 6


def step_blocks(step: StepInput, tiling: Tiling) -> list[Block]:
    """What all layer groups have in common, then what each group has of its own, kind by kind."""
    return _common(step, tiling) + _of_groups(step)


def arranged(tensors: Sequence[Any], groups: int) -> tuple[Any, ...]:
    """The tensors of ``step_blocks`` as the function's arguments: of what is a group's own, a list of each kind."""
    kinds = (tensors[first : first + groups] for first in range(_COMMON, len(tensors), groups))
    return (*tensors[:_COMMON], *map(tensor_list, kinds))


def _common(step: StepInput, tiling: Tiling) -> list[Block]:
    """Token ids, positions, sequences [s, 4], tiles [t, 5], pieces, and rows of logits."""
    sequences = sequence_rows(step)
    tiles, pieces = attention_tiles(tiling, step.query_starts, step.kv_lengths, first_groups(step, sequences))
    vectors = (step.token_ids, step.positions, pieces, step.logit_rows)
    token_ids, positions, piece_starts, logit_rows = map(_vector, vectors)
    return [token_ids, positions, _matrix(sequences), _matrix(tiles), piece_starts, logit_rows]


def _of_groups(step: StepInput) -> list[Block]:
    """For each layer group its slots; then the page tables, the windows, and the positions among the sinks."""
    last_seen = [window.size - 1 for window in step.windows]
    return [
        *map(_vector, step.slots),
        *map(_matrix, step.page_tables),
        *(_vector((window.sinks, window.recent)) for window in step.windows),
        *(_vector([position if position < last else last for position in step.positions]) for last in last_seen),
    ]


def _vector(values: Sequence[int]) -> Block:
    return (len(values),), values


def _matrix(rows: Sequence[Sequence[int]]) -> Block:
    return (len(rows), len(rows[0])), list(chain.from_iterable(rows))
