"""Paged attention as the GPU runs it: two steps of appending, then what the last tokens see, against float64."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from checked import LIMIT, Array, Checked, error

from kvscape.config import KEY_GROUP, KVPrecision
from kvscape.engine.devices.device import StepInput
from kvscape.engine.devices.key_groups import first_groups, sequence_rows
from kvscape.engine.devices.tiles import query_tiles, token_ranges
from kvscape.quantization.kv import round_keys, round_values

PAGE_SIZE, LAYERS, LAYER = 24, 2, 1
RANGE = 64  # of the kernels


@dataclass(frozen=True)
class Heads:
    """One attention layer: ``rotary`` dimensions of D are rotated, scores are bent below ``cap`` where it is not 0."""

    kv_dtype: str
    q_heads: int
    heads: int
    D: int
    rotary: int = 0
    cap: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.precision.identifier}_{self.q_heads}_{self.heads}x{self.D}_{self.rotary}_{self.cap:.0f}"

    @property
    def title(self) -> str:
        rest = [f"rotary {self.rotary}"] * (self.rotary > 0) + [f"cap {self.cap:.0f}"] * (self.cap > 0)
        return " ".join(["attention", self.kv_dtype, str(self.D), f"{self.q_heads}/{self.heads}", *rest])

    @property
    def precision(self) -> KVPrecision:
        return KVPrecision.parse(self.kv_dtype)

    @property
    def turned(self) -> int:
        return self.rotary or self.D

    @property
    def group(self) -> int:
        return self.q_heads // self.heads


HEADS = (
    *(Heads(kv_dtype, 9, 3, 64) for kv_dtype in ("f32", "f16", "fp8", "int8", "int4")),
    *(Heads(kv_dtype, 32, 8, 128) for kv_dtype in ("f16", "fp8", "int8", "int4")),
    *(Heads(kv_dtype, 6, 2, 32) for kv_dtype in ("f16", "int4")),
    *(Heads(kv_dtype, 4, 4, 32, rotary=24, cap=20.0) for kv_dtype in ("f16", "int8", "int4")),
    *(Heads(kv_dtype, 6, 2, 96, rotary=72) for kv_dtype in ("f16", "int8", "int4")),
    *(Heads(kv_dtype, 4, 1, 256, cap=5.0) for kv_dtype in ("f16", "int8", "int4")),
    *(Heads(kv_dtype, 14, 2, 64) for kv_dtype in ("k=int8,v=int4", "k=int4,v=fp8", "k=f16,v=int8")),
)


TIE_LIMIT = 5e-3
"""Of 4-bit codes one in a million is rounded another way in f32 than in f64, by a fifteenth of what its group spans."""


@dataclass(frozen=True)
class Seen:
    """Sequences' lengths and how many of their last tokens a step has; window: sinks and recent tokens."""

    name: str
    lengths: tuple[int, ...]
    new: tuple[int, ...]
    sinks: int = 0
    recent: int = 1 << 30
    split: bool = False


def steps(longest: int) -> tuple[Seen, ...]:
    """Of every kind, with some lengths around a range's and one as long as that."""
    some, one_each = (1, 64, 65, longest // 3, longest), (1,) * 5
    return (
        Seen("decode", some, one_each),
        Seen("decode split", some, one_each, split=True),
        Seen("prefill", (37, longest * 7 // 10), (37, longest * 3 // 10)),
        Seen("window", (longest * 3 // 10, longest * 7 // 10), (40, 1), 4, longest * 3 // 20),
        Seen("window split", some, one_each, 4, longest * 3 // 20, True),
    )


class Run(Protocol):
    """Runs one kernel on the GPU."""

    def tensor(self, array: Array) -> Any: ...

    def __call__(
        self, name: str, inputs: Sequence[Any], outputs: Sequence[tuple[tuple[int, ...], str]]
    ) -> list[Array]: ...


def functions(heads: Heads) -> Iterator[tuple[str, Any]]:
    from kvscape.compiler.kernels.cuda import attention

    sizes = (heads.q_heads, heads.heads, heads.D, heads.turned)
    shape = attention.Shape(heads.kv_dtype, *sizes, heads.D**-0.5, heads.cap)
    yield f"attention_{heads.name}", attention.paged_attention_function(shape, "float32", f"attention_{heads.name}")
    yield f"append_{heads.name}", attention.rope_append_function(shape, f"append_{heads.name}")
    if shape.grouped:
        yield f"group_{heads.name}", attention.group_append_function(shape, f"group_{heads.name}")


def check(heads: Heads, steps: Sequence[Seen], run: Run, rng: np.random.Generator) -> Iterator[Checked]:
    for seen in steps:
        yield _checked(heads, run, rng, seen)


def _checked(heads: Heads, run: Run, rng: np.random.Generator, seen: Seen) -> Checked:
    case = _Case(run, rng, heads, seen)
    before = [length - new for length, new in zip(seen.lengths, seen.new, strict=True)]
    case.append([0] * len(before), before)
    step, q, sink_q, own = case.append(before, seen.lengths)
    sequences = sequence_rows(step)
    groups = first_groups(step, sequences)
    whole = query_tiles(step.query_starts, max(1, 64 // heads.group), 3, groups)
    ways: list[tuple[Any, list[int]]] = [(whole, [])]
    if seen.split:
        ways.append(token_ranges([-(-length // RANGE) for length in seen.lengths], groups))
    found = []
    for tiles, pieces in ways:
        numbers = (tiles, pieces, step.positions, [seen.sinks, seen.recent])
        places = [case.pool, case.tables, *(np.array(each, np.int32) for each in numbers)]
        shapes = [(q.shape, "float32"), ((len(tiles) * heads.q_heads * (heads.D + 2),), "float32")]
        found.append(run(f"attention_{heads.name}", [q, sink_q, *places, *own, LAYER], shapes)[0])
    wanted = np.concatenate([case.reference(i, new, seen) for i, new in enumerate(seen.new)])
    is_same = all(np.array_equal(one, found[0]) for one in found)
    limit = TIE_LIMIT if "int4" in heads.precision.identifier else LIMIT
    return Checked(f"{heads.title} {seen.name}", error(found[-1].reshape(wanted.shape), wanted), is_same, limit)


class _Case:
    """Random sequences, and pages of them that hold garbage."""

    def __init__(self, run: Run, rng: np.random.Generator, heads: Heads, seen: Seen) -> None:
        from kvscape.analysis.memory import KEY_SCALE_BYTES, VALUE_SCALE_BYTES, code_bytes

        self.run, self.heads, self.lengths = run, heads, (lengths := seen.lengths)
        width, key, value = heads.q_heads + 2 * heads.heads, heads.precision.key, heads.precision.value
        self.qkv = [rng.standard_normal((length, width, heads.D)).astype(np.float32) for length in lengths]
        self.angles = [rng.standard_normal((2, length, heads.turned // 2)) for length in lengths]
        for angles, among_sinks in self.angles:  # which are those of its position until a window is full
            among_sinks[: seen.sinks + seen.recent] = angles[: seen.sinks + seen.recent]
        self.tables, pages = _tables(lengths)
        codes = code_bytes(key, heads.D) + code_bytes(value, heads.D)
        token_bytes = heads.heads * (codes + KEY_SCALE_BYTES[key](heads.D) + VALUE_SCALE_BYTES[value])
        self.pool = run.tensor(np.full((LAYERS, pages, PAGE_SIZE * token_bytes), 0x7B, np.uint8))
        tail = (LAYERS, len(lengths), heads.heads * heads.D * KEY_GROUP)
        self.tails = run.tensor(np.full(tail, np.nan, np.float16))

    def append(self, starts: Sequence[int], stops: Sequence[int]) -> tuple[StepInput, Array, Array, list[Array]]:
        """A step of the tokens ``starts`` to ``stops`` of all sequences; queries, and keys of the groups it adds to."""
        heads = self.heads
        chosen = [i for i, (start, stop) in enumerate(zip(starts, stops, strict=True)) if stop > start]
        spans = [np.arange(starts[i], stops[i]) for i in chosen]
        step = _step(spans, [stops[i] for i in chosen], chosen)
        qkv, angles = ([of[i][..., starts[i] : stops[i], :] for i in chosen] for of in (self._flat(), self.angles))
        tables = [
            np.concatenate([np.cos(part), np.sin(part)], -1).astype(np.float32) for part in np.concatenate(angles, 1)
        ]
        slots = [
            self.tables[i, at // PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE for i, at in zip(chosen, spans, strict=True)
        ]
        x, shape = np.concatenate(qkv), (len(step.positions), heads.q_heads * heads.D)
        inputs = [x, *tables, np.concatenate(slots).astype(np.int32), self.pool, LAYER]
        q, sink_q = self.run(f"append_{heads.name}", inputs, [(shape, "float32")] * 2)
        return step, q, sink_q, self._append_groups(step, x, tables[0], chosen)

    def _append_groups(self, step: StepInput, x: Array, table: Array, chosen: list[int]) -> list[Array]:
        heads, s = self.heads, len(chosen)
        if heads.precision.key_group == 1:
            return []
        numbers = [np.array(step.positions, np.int32), np.array(sequence_rows(step), np.int32), self.tables[chosen]]
        groups = (len(x) // KEY_GROUP + 2 * s, heads.heads, heads.D * KEY_GROUP)
        inputs = [x, table, *numbers, self.pool, self.tails, LAYER]
        return self.run(f"group_{heads.name}", inputs, [(groups, "float32")])

    def _flat(self) -> list[Array]:
        return [x.reshape(len(x), -1) for x in self.qkv]

    def reference(self, i: int, new: int, seen: Seen) -> Array:
        """What the last ``new`` tokens of sequence i should see, f64 [new, q_heads, D]."""
        heads, x, first = self.heads, self.qkv[i], self.lengths[i] - new
        q, keys, values = np.split(x, [heads.q_heads, heads.q_heads + heads.heads], 1)
        angles, sink_angles = self.angles[i]
        own = _turned(keys, angles).astype(np.float32)
        scores, own_scores, sink_scores = (
            self._scores(_turned(q, of)[first:], kept)
            for of, kept in (
                (angles, round_keys(own, heads.precision.key)),
                (angles, own),
                (sink_angles, round_keys(own, heads.precision.key)),
            )
        )
        key, position = np.arange(len(x)), np.arange(first, len(x))[:, None]
        if heads.precision.key_group > 1:
            is_own = key // KEY_GROUP == position // KEY_GROUP
            scores = np.where(is_own, own_scores, scores)
            sink_scores = np.where(is_own, self._scores(_turned(q, sink_angles)[first:], own), sink_scores)
        scores = np.where(key < seen.sinks, sink_scores, scores)
        scores = heads.cap * np.tanh(scores / heads.cap) if heads.cap else scores
        visible = (key <= position) & ((key < seen.sinks) | (key > position - seen.recent))
        weights = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        wide = np.repeat(round_values(values, heads.precision.value).astype(np.float64), heads.group, 1)
        result: Array = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), wide)
        return result

    def _scores(self, q: Array, keys: Array) -> Array:
        wide = np.repeat(keys.astype(np.float64), self.heads.group, 1)
        result: Array = np.einsum("qhd,khd->hqk", q, wide) * self.heads.D**-0.5
        return result


def _turned(x: Array, angles: Array) -> Array:
    """The first dimensions of x [n, heads, D], twice as many as there are angles [n, half], turned, as f64."""
    half = angles.shape[1]
    low, high, rest = np.split(x.astype(np.float64), [half, 2 * half], 2)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([low * cos - high * sin, low * sin + high * cos, rest], 2)


def _step(spans: Sequence[Array], lengths: Sequence[int], tails: Sequence[int]) -> StepInput:
    positions = np.concatenate(spans).tolist()
    starts = [0, *accumulate(map(len, spans))]
    return StepInput([0] * len(positions), positions, starts, list(lengths), [], [], [], [], list(tails))


def _tables(lengths: Sequence[int]) -> tuple[npt.NDArray[np.int32], int]:
    """Pages in an order of their own."""
    counts = [-(-length // PAGE_SIZE) for length in lengths]
    order = np.random.default_rng(1).permutation(sum(counts)).astype(np.int32)
    tables = np.zeros((len(lengths), max(counts)), np.int32)
    for i, part in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        tables[i, : len(part)] = part
    return tables, sum(counts)
