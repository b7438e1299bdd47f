"""A device without a model: logits are a hash of all tokens a query sees, read through the page tables it was given.

A wrong page, slot, position or length, a lost or doubled token gives other logits, and so other tokens. As a
model's keys and values do, an entry of the cache depends on every token before it.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kvscape.artifact import LibraryMetadata
from kvscape.config import LayerGroup, ModelConfig, Window
from kvscape.engine.devices import KVPools, Logits, StepInput
from kvscape.engine.devices.device import FloatArray, IntArray

EOS = 1
FIRST = (-1, -1, 0)


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


def toy_logits(prefix: Sequence[int] | IntArray, vocab_size: int = 40, window: Window | None = None) -> FloatArray:
    """The model itself: logits after ``prefix``, without any cache."""
    entries = [FIRST]
    for position, token_id in enumerate(prefix):
        entries.append(entry(int(token_id), position, int(entries[-1][2])))
    seen, keys = window or Window(), np.arange(len(prefix))
    visible = np.array(entries[1:], np.int64)[(keys < seen.sinks) | (keys > len(prefix) - 1 - seen.recent)]
    return _hashed_logits([visible] * 2, vocab_size)


def entry(token_id: int, position: int, past: int) -> tuple[int, int, int]:
    """What a slot holds: the token, its position, and a hash of all tokens up to it."""
    return token_id, position, zlib.crc32(b"%d" % token_id, past & 0xFFFFFFFF)


def _hashed_logits(seen: Sequence[npt.NDArray[np.int64]], vocab_size: int) -> FloatArray:
    digest = hashlib.blake2b(b"|".join(entries.tobytes() for entries in seen), digest_size=16).digest()
    key = np.frombuffer(digest, np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(vocab_size, np.float32) * 3


@dataclass(frozen=True, eq=False)
class FakePools:
    """Each slot holds an ``entry``; -1 until written."""

    slots: tuple[npt.NDArray[np.int64], ...]
    page_size: int

    @property
    def nbytes(self) -> int:
        return sum(group.nbytes for group in self.slots)


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

    @property
    def metadata(self) -> LibraryMetadata:
        raise NotImplementedError

    def allocate(self, kv_dtype: str, num_pages: Sequence[int], page_size: int) -> FakePools:
        return FakePools(tuple(np.full((pages * page_size, 3), -1, np.int64) for pages in num_pages), page_size)

    def forward(self, step: StepInput, pools: KVPools) -> FakeLogits:
        assert isinstance(pools, FakePools)
        check_shapes(step)
        self.steps.append(step)
        for group, (slots, tables) in enumerate(zip(step.slots, step.page_tables, strict=True)):
            self._append(step, pools.slots[group], slots, tables, pools.page_size)
        rows = [self._row(step, int(row), pools) for row in step.logit_rows]
        return FakeLogits(np.stack(rows) if rows else np.zeros((0, self.model.vocab_size), np.float32))

    def _append(
        self, step: StepInput, group: npt.NDArray[np.int64], slots: IntArray, tables: IntArray, page_size: int
    ) -> None:
        for row, (slot, position) in enumerate(zip(slots.tolist(), step.positions.tolist(), strict=True)):
            table = tables[int(np.searchsorted(step.query_starts, row, side="right")) - 1]
            page, offset = divmod(position - 1, page_size)
            past = int(group[table[page] * page_size + offset, 2]) if position > 0 else FIRST[2]
            group[slot] = entry(int(step.token_ids[row]), position, past)

    def _row(self, step: StepInput, row: int, pools: FakePools) -> FloatArray:
        sequence = int(np.searchsorted(step.query_starts, row, side="right")) - 1
        visible = min(int(step.positions[row]) + 1, int(step.kv_lengths[sequence]))
        seen = []
        for group, tables, (sinks, recent) in zip(pools.slots, step.page_tables, step.windows, strict=True):
            pages = group.reshape(-1, pools.page_size, 3)[tables[sequence]]
            keys = np.arange(visible)
            seen.append(pages.reshape(-1, 3)[:visible][(keys < sinks) | (keys > step.positions[row] - recent)])
        return _hashed_logits(seen, self.model.vocab_size)

    def logprobs(self, logits: Logits, token_ids: IntArray) -> FloatArray:
        values = self._values(logits).astype(np.float64)
        chosen = values[np.arange(len(token_ids)), token_ids]
        logprobs: FloatArray = (chosen - np.log(np.exp(values).sum(axis=1))).astype(np.float32)
        return logprobs

    def greedy(self, logits: Logits) -> IntArray:
        token_ids: IntArray = self._values(logits).argmax(axis=1).astype(np.int32)
        return token_ids

    def fetch(self, logits: Logits) -> FloatArray:
        self.fetched_rows += logits.shape[0]
        return self._values(logits)

    def _values(self, logits: Logits) -> FloatArray:
        assert isinstance(logits, FakeLogits)
        return logits.values


def check_shapes(step: StepInput) -> None:
    """Assert the shapes and types that ``StepInput`` documents."""
    tokens, sequences = len(step.token_ids), len(step.kv_lengths)
    assert tokens > 0 and step.positions.shape == (tokens,) and step.query_starts.shape == (sequences + 1,)
    assert step.query_starts[0] == 0 and step.query_starts[-1] == tokens
    lengths = np.diff(step.query_starts)
    assert (lengths > 0).all() and (np.diff(lengths > 1) >= 0).all(), "single tokens come first"
    for slots, tables in zip(step.slots, step.page_tables, strict=True):
        assert slots.shape == (tokens,) and len(np.unique(slots)) == tokens
        assert tables.shape[0] == sequences
    arrays = [step.token_ids, step.positions, step.query_starts, step.kv_lengths, step.logit_rows]
    assert all(array.dtype == np.int32 for array in [*arrays, *step.slots, *step.page_tables])
