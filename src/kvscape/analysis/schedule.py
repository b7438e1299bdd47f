"""The steps of a workload as the engine schedules them, summed over the times that a benchmark takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kvscape.config import EngineConfig, ModelConfig, Workload

SUMS = ("steps", "tokens", "logit_rows", "passes", "logit_passes", "keys_read", "keys_seen")
TIMES = ("prefill_s", "decode_s", "ttft_s", "tpot_s", "e2e_s")
FloatArray = NDArray[np.float64]

# Rows of activations that share one load of the weights, as the kernels of integer and of float products take them, and
# a GPU's by CUDA and by WebGPU. The last ones may be fewer.
INTEGER_ROWS, FLOAT_ROWS, GPU_ROWS, WEBGPU_ROWS = (4, 1), (6, 2, 1), (128, 16), (128, 64, 8)


@dataclass(frozen=True)
class Schedule:
    """``sums`` [TIMES, SUMS]: what is done in each time; ``decoded`` counts the tokens of ``decode_s``.

    ``prefill_s`` is until the last stream's first token, ``decode_s`` what follows; ``ttft_s``, ``tpot_s`` and
    ``e2e_s`` are those of the median stream. ``keys_read`` counts the keys of every sequence in a step once,
    ``keys_seen`` those of every query, both as the mean over the layers. A pass goes once through the weights of the
    layers, or of the output layer, for a few rows of a step.
    """

    sums: FloatArray
    decoded: int


def schedule(
    model: ModelConfig, engine: EngineConfig, workload: Workload, rows: tuple[int, ...] = INTEGER_ROWS
) -> Schedule:
    """Schedule equal prompts that come and run together, as if pages never ran out."""
    sizes = tuple((engine.window(group).size, len(group.layers)) for group in model.layer_groups)
    requests = workload.num_requests or engine.max_batch_size
    return _schedule(requests, workload.prompt_tokens, workload.max_tokens, engine.prefill_chunk_size, sizes, rows)


@lru_cache(maxsize=4096)
def _schedule(
    batch: int, prompt: int, output: int, chunk: int, sizes: tuple[tuple[int, int], ...], rows: tuple[int, ...]
) -> Schedule:
    plan = _Plan(batch, prompt, output, chunk)
    plan.prefill()
    prefilled = plan.step - 1
    plan.decode()
    steps = _step_sums(plan, sizes, rows)
    done = np.cumsum(steps, axis=0)
    first, last = (done[np.array(plan.ends_of(tokens))] for tokens in (1, output))
    decoded = int(steps[prefilled + 1 :, SUMS.index("logit_rows")].sum())
    times = (
        done[prefilled],
        done[-1] - done[prefilled],
        np.median(first, axis=0),
        np.median((last - first) / (output - 1), axis=0),
        np.median(last, axis=0),
    )
    return Schedule(np.stack(times), decoded)


@dataclass
class _Plan:
    """The chunks of every step: arrays of the step, the first and the last position + 1 of each."""

    batch: int
    prompt: int
    output: int
    chunk: int
    step: int = 0
    chunks: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._done = [0] * self.batch
        self._first = [0] * self.batch

    @property
    def _end(self) -> int:
        """Tokens of a stream that are computed when its last one has come: that one never is."""
        return self.prompt + self.output - 1

    def prefill(self) -> None:
        """Steps until every prompt is read: decoding streams take their token first, prompts share the rest."""
        while any(done < self.prompt for done in self._done):
            budget = max(self.chunk, self.batch)
            for stream in sorted(range(self.batch), key=lambda one: self._done[one] < self.prompt):
                tokens = min(self._pending(stream), self.chunk, budget)
                if tokens > 0:
                    self._add(stream, tokens)
                    budget -= tokens
            self.step += 1

    def decode(self) -> None:
        """Steps of one token for every stream that is not finished."""
        for done in self._done:
            positions = np.arange(done, self._end)
            self.chunks.append(np.stack([self.step + positions - done, positions, positions + 1]))

    def ends_of(self, tokens: int) -> Sequence[int]:
        """The step that gave each stream its first ``tokens`` tokens."""
        return [first + tokens - 1 for first in self._first]

    def _pending(self, stream: int) -> int:
        done = self._done[stream]
        return self.prompt - done if done < self.prompt else int(done < self._end)

    def _add(self, stream: int, tokens: int) -> None:
        start, stop = self._done[stream], self._done[stream] + tokens
        self.chunks.append(np.array([[self.step], [start], [stop]]))
        self._done[stream] = stop
        if start < self.prompt <= stop:
            self._first[stream] = self.step


def _step_sums(plan: _Plan, sizes: tuple[tuple[int, int], ...], rows: tuple[int, ...]) -> FloatArray:
    """[steps, SUMS]."""
    step, start, stop = np.concatenate(plan.chunks, axis=1)
    each = (stop - start, stop >= plan.prompt, *_keys(start, stop, sizes))
    tokens, logit_rows, read, seen = (np.bincount(step, weights).astype(np.float64) for weights in each)
    passes, logit_passes = _passes(tokens, rows), _passes(logit_rows, rows)
    return np.stack([np.ones(len(tokens)), tokens, logit_rows, passes, logit_passes, read, seen], axis=1)


def _passes(tokens: FloatArray, rows: tuple[int, ...]) -> FloatArray:
    """As many blocks of the first size as there are, then of the next for what is left, and one that is not full."""
    passes, left = np.zeros_like(tokens), tokens
    for size in rows:
        passes, left = passes + left // size, left % size
    return passes + (left > 0)


def _keys(
    start: NDArray[np.int64], stop: NDArray[np.int64], sizes: tuple[tuple[int, int], ...]
) -> tuple[FloatArray, FloatArray]:
    layers = sum(number for _, number in sizes)
    read = sum(number * np.minimum(stop, size + stop - start - 1) for size, number in sizes) / layers
    seen = sum(number * (_seen_before(stop, size) - _seen_before(start, size)) for size, number in sizes) / layers
    return np.asarray(read, np.float64), np.asarray(seen, np.float64)


def _seen_before(position: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Keys that all queries before a position see, at most ``size`` each."""
    inside = np.minimum(position, size)
    return np.asarray(inside * (inside + 1) // 2 + (position - inside) * size)
