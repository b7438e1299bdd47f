"""The kernel calls of one step, recorded once and then run again one by one.

An instrument of TVM's machine sees every call, but Python's part in it is as long as a small kernel. So it only
records; each kernel is timed in a replay, in the step's order so that caches hold what they hold in a step, and less
what a call that does nothing takes with the same arguments.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kvscape.analysis.kernel_cost import Array

if TYPE_CHECKING:
    from kvscape.engine.devices.calls import TimesCalls


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a kernel: the function itself and its arguments, kept alive."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def arrays(self) -> tuple[Array, ...]:
        tensors = [value for value in self.arguments if hasattr(value, "shape") and hasattr(value, "dtype")]
        return tuple(Array(tuple(map(int, tensor.shape)), _itemsize(tensor)) for tensor in tensors)


class Recorder:
    """Notes the calls of the ``names``d kernels; the machine's own functions are the host's."""

    def __init__(self, names: Collection[str]) -> None:
        self.calls: list[Call] = []
        self._names = names

    def __call__(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        if before and name in self._names:
            self.calls.append(Call(name, function, arguments))
        return 0  # go on


Timed = Callable[[Sequence[Call], Sequence[Callable[..., Any]]], list[float]]
"""Seconds of each function with the arguments of its call."""


def timed_here(calls: Sequence[Call], functions: Sequence[Callable[..., Any]]) -> list[float]:
    """By the host's clock, of what the host does."""
    times = []
    for call, function in zip(calls, functions, strict=True):
        start = time.perf_counter()
        function(*call.arguments)
        times.append(time.perf_counter() - start)
    return times


def timed_by(device: "TimesCalls") -> Timed:
    """By a device that times calls of its functions itself."""

    def timed(calls: Sequence[Call], functions: Sequence[Callable[..., Any]]) -> list[float]:
        pairs = zip(calls, functions, strict=True)
        return device.seconds([partial(function, *call.arguments) for call, function in pairs])

    return timed


def replay(calls: Sequence[Call], nothing: Callable[..., Any], timed: Timed = timed_here) -> list[float]:
    """Seconds of each call; ``nothing`` takes any arguments and does as little as can be."""
    times = timed(calls, [call.function for call in calls])
    idle = timed(calls, [nothing] * len(calls))
    return [max(0.0, busy - passing) for busy, passing in zip(times, idle, strict=True)]


def _itemsize(tensor: Any) -> int:
    return np.dtype(str(tensor.dtype)).itemsize
