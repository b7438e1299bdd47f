"""A device without a model: logits are a hash of all tokens a query sees, read through the page tables it was given.

A wrong page, slot, position or length, a lost or doubled token gives other logits, and so other tokens. As a
model's keys and values do, an entry of the cache depends on every token before it. A value is in its page at once; the
keys of a group are written into their pages when the group is complete, and wait in the sequence's tail until then;
each comes with the group's scale, which depends on all of the group.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.artifact import LibraryMetadata
from kvscape.config import KVPrecision, LayerGroup, ModelConfig, Window
from kvscape.engine.devices import KVPools, Logits, StepInput
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray
from kvscape.engine.draws import sampled
from kvscape.engine.logprobs import token_logprobs
from kvscape.engine.token_logprob import TokenLogprob

EOS = 1
FIRST = (-1, -1, 0)
GARBAGE = (-2, -2, -2)
"""What is where a key is to be written."""

Entries: TypeAlias = npt.NDArray[np.int64]


class TwoGroups(ModelConfig):
    """A model whose layers alternate between two pools."""

    @property
    def layer_groups(self) -> tuple[LayerGroup, ...]:
        return (LayerGroup((0,)), LayerGroup((1,)))


def toy_model(vocab_size: int = 40, context: int = 2048) -> ModelConfig:
    return TwoGroups(
        model_type="toy",
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=vocab_size,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        eos_token_ids=(EOS,),
    )


def toy_logits(
    prefix: Sequence[int] | IntArray,
    vocab_size: int = 40,
    window: Window | None = None,
    windows: tuple[Window, Window] | None = None,
) -> FloatArray:
    """The model itself, without any cache: logits after ``prefix``; each layer group has its own of ``windows``."""
    entries = [FIRST]
    for position, token_id in enumerate(prefix):
        entries.append(entry(int(token_id), position, int(entries[-1][2])))
    keys, all_entries = np.arange(len(prefix)), np.array(entries[1:], np.int64)
    seen = [
        all_entries[(keys < one.sinks) | (keys > len(prefix) - 1 - one.recent)]
        for one in windows or (window or Window(),) * 2
    ]
    return _hashed_logits(seen, vocab_size)


def entry(token_id: int, position: int, past: int) -> tuple[int, int, int]:
    """What a slot holds: the token, its position, and a hash of all tokens up to it."""
    return token_id, position, zlib.crc32(b"%d" % token_id, past & 0xFFFFFFFF)


def _hashed_logits(seen: Sequence[npt.NDArray[np.int64]], vocab_size: int) -> FloatArray:
    digest = hashlib.blake2b(b"|".join(entries.tobytes() for entries in seen), digest_size=16).digest()
    key = np.frombuffer(digest, np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(vocab_size, np.float32) * 3


@dataclass(frozen=True, eq=False)
class FakePools:
    """Slots of each layer group, and tails: each key and each value is an ``entry``; -1 until written."""

    keys: tuple[Entries, ...]
    scales: tuple[Entries, ...]
    values: tuple[Entries, ...]
    tails: tuple[Entries, ...]
    page_size: int

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (*self.keys, *self.scales, *self.values, *self.tails))

    def pages(self, group: int) -> tuple[Entries, ...]:
        """What each page of a layer group holds."""
        arrays = self.keys[group], self.scales[group], self.values[group]
        return tuple(array.reshape(-1, self.page_size, array.shape[1]) for array in arrays)


@dataclass(frozen=True, eq=False)
class View:
    """What one sequence has of one layer group."""

    keys: Entries
    scales: Entries
    values: Entries
    tail: Entries
    table: IntArray
    page_size: int

    def places(self, positions: range) -> IntArray:
        """Slots by the page table."""
        at = np.array(positions, np.int64)
        slots: IntArray = self.table[at // self.page_size] * self.page_size + at % self.page_size
        return slots

    def entries(self, seen: npt.NDArray[np.bool_]) -> Entries:
        """Those of the tokens that are seen, the unfinished group's from the tail; a lost key, scale or value shows."""
        length = len(seen)
        complete = length // len(self.tail) * len(self.tail)
        places = self.places(range(length))
        same = one_scale(self.scales[places[:complete], 0], seen[:complete], len(self.tail))
        whole = np.where(same[:, None], self.keys[places[:complete]], -4)
        keys = np.concatenate([whole, self.tail[: length - complete]])
        return np.where(keys == self.values[places], keys, -3)[seen]

    def append(self, slot: int, position: int, new: tuple[int, int, int]) -> None:
        """Write a token; its group's keys are written if it is the last one, whatever was in their place."""
        self.values[slot], self.keys[slot] = new, GARBAGE
        self.tail[position % len(self.tail)] = new
        first = position // len(self.tail) * len(self.tail)
        if position + 1 == first + len(self.tail):
            places = self.places(range(first, position + 1))
            self.keys[places], self.scales[places] = self.tail, scales(self.tail, len(self.tail))


def one_scale(of_keys: Entries, seen: npt.NDArray[np.bool_], key_group: int) -> npt.NDArray[np.bool_]:
    """Whether those keys of a group that are seen have one scale: [n]"""
    groups, visible = of_keys.reshape(-1, key_group), seen.reshape(-1, key_group)
    most, least = np.where(visible, groups, -(2**62)), np.where(visible, groups, 2**62)
    return np.repeat(most.max(axis=1, initial=-(2**62)) <= least.min(axis=1, initial=2**62), key_group)


def scales(keys: Entries, key_group: int) -> Entries:
    """[n, 1] for keys [n, 3]"""
    sums: Entries = keys[:, 2].reshape(-1, key_group).sum(axis=1)
    return np.repeat(sums, key_group)[:, None]


@dataclass(frozen=True, eq=False)
class FakeLogits:
    values: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        return (self.values.shape[0], self.values.shape[1])


@dataclass
class FakeDevice:
    model: ModelConfig = field(default_factory=toy_model)
    steps: list[StepInput] = field(default_factory=list)
    fetched_rows: int = 0
    drawn_tokens: int = 0
    copied: list[tuple[list[list[list[int]]], list[list[int]]]] = field(default_factory=list)
    """Pages of each layer group, and tails, of each copy."""

    @property
    def metadata(self) -> LibraryMetadata:
        raise NotImplementedError

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> FakePools:
        key_group = KVPrecision.parse(kv_dtype).key_group

        def slots(width: int) -> tuple[Entries, ...]:
            return tuple(np.full((pages * page_size, width), -1, np.int64) for pages in num_pages)

        tails = tuple(np.full((num_tails, key_group, 3), -1, np.int64) for _ in num_pages)
        return FakePools(slots(3), slots(1), slots(3), tails, page_size)

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        assert isinstance(pools, FakePools)
        self.copied.append(([group.tolist() for group in pages], tails.tolist()))
        for group, moves in enumerate(pages):
            for source, destination in moves.tolist():
                for array in pools.pages(group):
                    array[destination] = array[source]
            for source, destination in tails.tolist():
                pools.tails[group][destination] = pools.tails[group][source]

    def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
        assert isinstance(pools, FakePools)
        check_shapes(step)
        self.steps.append(step)
        wanted = set(step.logit_rows)
        rows: list[FloatArray] = []
        for sequence, (start, stop) in enumerate(pairwise(step.query_starts)):
            tables = [np.array(tables[sequence]) for tables in step.page_tables]
            views = views_of(pools, tables, step.tails[sequence])
            for row in range(start, stop):
                for view, slots in zip(views, step.slots, strict=True):
                    self._append(step, row, view, slots[row])
                if row in wanted:
                    rows.append(self._logits(step, row, views, step.kv_lengths[sequence]))
        return FakeLogits(np.stack(rows) if rows else np.zeros((0, self.model.vocab_size), np.float32))

    def _append(self, step: StepInput, row: int, view: View, slot: int) -> None:
        position = step.positions[row]
        past = int(view.entries(np.arange(position) == position - 1)[0, 2]) if position > 0 else FIRST[2]
        view.append(slot, position, entry(step.token_ids[row], position, past))

    def _logits(self, step: StepInput, row: int, views: Sequence[View], length: int) -> FloatArray:
        position = step.positions[row]
        keys = np.arange(min(position + 1, length))
        seen = [
            view.entries((keys < window.sinks) | (keys > position - window.recent))
            for view, window in zip(views, step.windows, strict=True)
        ]
        return _hashed_logits(seen, self.model.vocab_size)

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        values = self._values(logits).astype(np.float64)
        chosen = values[np.arange(len(token_ids)), token_ids]
        logprobs: FloatArray = (chosen - np.log(np.exp(values).sum(axis=1))).astype(np.float32)
        return logprobs

    def greedy(self, logits: Logits) -> list[int]:
        return [int(token_id) for token_id in self._values(logits).argmax(axis=1)]

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        self.drawn_tokens += len(draws)
        return sampled(self._values(logits), draws)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        return token_logprobs(self._values(logits), asked)

    def fetch(self, logits: Logits) -> FloatArray:
        self.fetched_rows += logits.shape[0]
        return self._values(logits)

    def _values(self, logits: Logits) -> FloatArray:
        assert isinstance(logits, FakeLogits)
        return logits.values


def views_of(pools: FakePools, tables: Sequence[IntArray], tail: int) -> list[View]:
    """What a sequence with these page tables and this tail has of each layer group."""
    arrays = zip(pools.keys, pools.scales, pools.values, pools.tails, tables, strict=True)
    return [
        View(keys, scales, values, tails[tail], table, pools.page_size) for keys, scales, values, tails, table in arrays
    ]


def check_shapes(step: StepInput) -> None:
    """Assert the lengths and types that ``StepInput`` documents."""
    tokens, sequences = len(step.token_ids), len(step.kv_lengths)
    assert tokens > 0 and len(step.positions) == tokens and len(step.query_starts) == sequences + 1
    assert step.query_starts[0] == 0 and step.query_starts[-1] == tokens
    lengths = np.diff(step.query_starts)
    assert (lengths > 0).all() and (np.diff(lengths > 1) >= 0).all(), "single tokens come first"
    for slots, tables in zip(step.slots, step.page_tables, strict=True):
        assert len(slots) == len(set(slots)) == tokens
        assert len(tables) == sequences and len(set(map(len, tables))) == 1
    assert len(step.tails) == len(set(step.tails)) == sequences and min(step.tails) >= 0
    rows = [row for tables in step.page_tables for row in tables]
    for values in [step.tails, step.token_ids, step.positions, step.query_starts, step.kv_lengths, step.logit_rows]:
        assert all(type(value) is int for value in values)
    assert all(type(value) is int and value >= 0 for values in [*step.slots, *rows] for value in values)
