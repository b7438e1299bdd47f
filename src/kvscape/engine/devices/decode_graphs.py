"""Launches of decode steps, recorded once and repeated: a step has hundreds of them, and each costs the host time.

A graph is recorded for a bucket of steps (``decode_numbers``), when the first of them has been launched one by one, and
belongs to one set of pools. Where recording fails, every step is launched one by one.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from kvscape.engine.devices.decode_numbers import Bucket, DecodeNumbers, Ints, Shape, bucket
from kvscape.engine.devices.device import StepInput
from kvscape.engine.devices.pools import TensorLogits, TensorPools

_MOST_GRAPHS = 64


class Recording(Protocol):
    """Launches that were recorded."""

    def launch(self) -> None:
        """Do them again, behind all that was asked of the device before."""


Record = Callable[[Callable[[], Any]], tuple[Any, Recording]]
"""Records what a function launches, without doing it; returns the function's result too."""
Compute = Callable[[TensorPools, Sequence[Any]], Any]
"""Launches a step on pools with the tensors of its numbers; returns its logits."""


class _Graph:
    """One bucket's numbers, and where its logits come to lie."""

    def __init__(self, numbers: DecodeNumbers) -> None:
        self.numbers = numbers
        self.recording: Recording | None = None
        self._views: dict[int, Any] = {}

    def record(self, record: Record, compute: Callable[[], Any]) -> None:
        self._logits, self.recording = record(compute)

    def logits(self, rows: int) -> TensorLogits:
        return first_rows(self._logits, rows, self._views)


class DecodeGraphs:
    """The graphs of one device; ``allocate`` makes tensors of numbers."""

    def __init__(
        self, record: Record, allocate: Callable[[Sequence[Shape]], Ints], compute: Compute, range_tokens: int
    ) -> None:
        self._record, self._allocate, self._compute, self._range_tokens = record, allocate, compute, range_tokens
        self._of_pools: WeakKeyDictionary[TensorPools, dict[Bucket, _Graph]] = WeakKeyDictionary()
        self.failure: str | None = None

    @property
    def recorded(self) -> int:
        """How many graphs there are."""
        return sum(map(len, self._of_pools.values()))

    def forget(self) -> None:
        """Let all graphs go: what they were recorded with moves."""
        self._of_pools.clear()

    def forward(self, step: StepInput, pools: TensorPools) -> TensorLogits | None:
        """Compute ``step``; None, having done nothing, where it is no decode step or graphs cannot be recorded."""
        sizes = bucket(step, self._range_tokens) if self.failure is None and pools.spare is not None else None
        if sizes is None:
            return None
        graphs = self._of_pools.setdefault(pools, {})
        graph = graphs.pop(sizes, None)
        if graph is None:
            return self._first(step, pools, sizes)
        graphs[sizes] = graph  # the last one is the one used last
        graph.numbers.fill(step)
        assert graph.recording is not None
        graph.recording.launch()
        return graph.logits(len(step.logit_rows))

    def _first(self, step: StepInput, pools: TensorPools, sizes: Bucket) -> TensorLogits:
        assert pools.spare is not None
        numbers = DecodeNumbers(sizes, self._allocate(sizes.shapes()), self._range_tokens, pools.spare)
        numbers.fill(step)
        logits = self._compute(pools, numbers.tensors)
        graph = _Graph(numbers)
        try:
            graph.record(self._record, lambda: self._compute(pools, numbers.tensors))
        except Exception as error:
            self.failure = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"decode steps are launched one by one: {self.failure}", RuntimeWarning, stacklevel=2)
        else:
            graphs = self._of_pools.setdefault(pools, {})  # the step may have made all others go
            graphs[sizes] = graph
            if len(graphs) > _MOST_GRAPHS:
                del graphs[next(iter(graphs))]
        return first_rows(logits, len(step.logit_rows), {})


def first_rows(logits: Any, rows: int, views: dict[int, Any]) -> TensorLogits:
    """The first ``rows`` rows of a tensor f32 [n, vocab]; ``views`` remembers them."""
    view = views.get(rows)
    if view is None:
        view = views[rows] = logits._create_view((rows, int(logits.shape[1])))
    return TensorLogits(view, rows)
