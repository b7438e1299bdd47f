"""The numbers of a step as the compiled function takes them: the order and the shapes of ``models.step``."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

from kvscape.config import KEY_GROUP
from kvscape.config.window import UNLIMITED
from kvscape.engine.devices.device import StepInput
from kvscape.engine.devices.key_groups import first_groups, sequence_rows
from kvscape.engine.devices.tensors import Block, tensor_list
from kvscape.engine.devices.tiles import Tiling, attention_tiles, dealt

_COMMON = 6

Cut: TypeAlias = tuple[list[int], list[int], list[int]]
"""Sequences, tiles and pieces: the numbers of each, row by row."""


def step_blocks(step: StepInput, tiling: Tiling) -> list[Block]:
    """What all layer groups have in common, then what each group has of its own, kind by kind."""
    return _common(step, tiling) + _of_groups(step)


def arranged(tensors: Sequence[Any], groups: int) -> tuple[Any, ...]:
    """The tensors of ``step_blocks`` as the function's arguments: of what is a group's own, a list of each kind."""
    kinds = (tensors[first : first + groups] for first in range(_COMMON, len(tensors), groups))
    return (*tensors[:_COMMON], *map(tensor_list, kinds))


def step_sizes(arguments: Sequence[Any]) -> tuple[int, int, int, int]:
    """Tokens, sequences, rows of logits and tiles, which a step's scratch memory depends on."""
    token_ids, _, sequences, tiles, _, logit_rows = arguments[:_COMMON]
    tokens, batch, rows, count = (int(tensor.shape[0]) for tensor in (token_ids, sequences, logit_rows, tiles))
    return tokens, batch, rows, count


def _common(step: StepInput, tiling: Tiling) -> list[Block]:
    """Token ids, positions, sequences [s, 4], tiles [t, 5], pieces, and rows of logits."""
    single = step.query_starts[-1] == len(step.kv_lengths)
    sequences, tiles, pieces = single_tokens(step, tiling) if single else many_tokens(step, tiling)
    return [
        ((len(step.token_ids),), step.token_ids),
        ((len(step.positions),), step.positions),
        ((len(sequences) // 4, 4), sequences),
        ((len(tiles) // 5, 5), tiles),
        ((len(pieces),), pieces),
        ((len(step.logit_rows),), step.logit_rows),
    ]


def many_tokens(step: StepInput, tiling: Tiling) -> Cut:
    """The numbers of any step's sequences, tiles and pieces."""
    sequences = sequence_rows(step)
    tiles, pieces = attention_tiles(tiling, step.query_starts, step.kv_lengths, first_groups(step, sequences))
    return [*chain.from_iterable(sequences)], [*chain.from_iterable(tiles)], pieces


def single_tokens(step: StepInput, tiling: Tiling) -> Cut:
    """The same for single tokens, as answers are made of: a fraction of the work, which a decode step waits for."""
    sequences: list[int] = []
    groups: list[int] = []
    tiles: list[int] = []
    for token, (tail, length) in enumerate(zip(step.tails, step.kv_lengths, strict=True)):
        sequences += (token, 1, tail, token)
        groups.append(token - (length - 1) // KEY_GROUP)
    if tiling.splits(step.kv_lengths):
        cut, pieces = tiling.token_ranges(step.kv_lengths, groups)
        return sequences, [*chain.from_iterable(cut)], pieces
    for token in dealt(range(len(groups)), tiling.threads):
        tiles += (token, token, 1, groups[token], 0)
    return sequences, tiles, []


def _of_groups(step: StepInput) -> list[Block]:
    """For each layer group its slots; then the page tables, the windows, and the positions among the sinks."""
    slots: list[Block] = []
    tables: list[Block] = []
    windows: list[Block] = []
    among_sinks: list[Block] = []
    for places, pages, window in zip(step.slots, step.page_tables, step.windows, strict=True):
        positions = step.positions
        if window.recent != UNLIMITED:
            last = window.size - 1
            positions = [min(position, last) for position in positions]
        slots.append(((len(places),), places))
        tables.append(((len(pages), len(pages[0])), [*chain.from_iterable(pages)]))
        windows.append(((2,), (window.sinks, window.recent)))
        among_sinks.append(((len(positions),), positions))
    return slots + tables + windows + among_sinks
